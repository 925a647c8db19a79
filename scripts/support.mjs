// What the npm scripts share. Runs before anything is installed: Node's own modules only.
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** Ends the script with one sentence when this Node.js is older than package.json asks for. */
export function checkNode() {
  const wanted = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).engines.node.replace('>=', '')
  const [major, minor] = process.versions.node.split('.').map(Number)
  const [wantedMajor, wantedMinor] = wanted.split('.').map(Number)
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return
  console.error(
    `pgherd needs Node.js ${wanted} or newer, this is ${process.versions.node}: install a newer one from https://nodejs.org`,
  )
  process.exit(1)
}

/** Runs a program in the project's folder with our terminal. Resolves to its exit code; 128 + n for signal n. */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options })
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(exitCode(code, signal)))
  })
}

/** The same, with its output collected instead of shown. */
export function runQuietly(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], ...options })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', text => (output += text))
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code: exitCode(code, signal), output }))
  })
}

export function exitCode(code, signal) {
  return code ?? 128 + constants.signals[signal]
}

/** Path of a program that a development dependency brings along. */
export function tool(name) {
  return join(root, 'node_modules', '.bin', name)
}

/** Installs the dependencies unless they are as package-lock.json wants them. Ends the script when that fails. */
export async function ensureDependencies() {
  const installed = join(root, 'node_modules', '.package-lock.json')
  if (existsSync(installed) && modifiedMs(installed) >= modifiedMs(join(root, 'package-lock.json'))) return
  console.error('installing dependencies')
  // The npm that runs this script, if one does; development dependencies also where NODE_ENV says production.
  const own = process.env.npm_execpath
  const [command, ...args] = own && basename(own) === 'npm-cli.js' ? [process.execPath, own] : ['npm']
  const code = await run(command, [
    ...args,
    'ci',
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
  ])
  if (code === 0) return
  console.error('the dependencies could not be installed: see above, and try again with npm ci')
  process.exit(code)
}

/** Compiles src, test and bench into dist if any of it is newer. Ends the script when that fails. */
export async function build() {
  removeStale()
  if (!isBuildNeeded()) return
  const code = await compile()
  if (code === 0) return
  console.error('the build failed: see above')
  process.exit(code)
}

const stamp = join(root, 'dist', '.built')
const inputs = ['src', 'test', 'bench', 'tsconfig.json', 'package-lock.json']

/** Compiles whatever the state of dist, and remembers when it succeeded. Resolves to the compiler's exit code. */
export async function compile(runner = run) {
  const startedMs = Date.now()
  const result = await runner(tool('tsc'), ['-p', 'tsconfig.json'])
  const code = typeof result === 'number' ? result : result.code
  if (code === 0) {
    writeFileSync(stamp, '')
    // Files saved while the compiler ran count as newer.
    utimesSync(stamp, startedMs / 1000, startedMs / 1000)
  }
  return result
}

function isBuildNeeded() {
  if (!existsSync(stamp)) return true
  const builtMs = modifiedMs(stamp)
  return inputs.some(input => {
    const path = join(root, input)
    return existsSync(path) && [path, ...filesBelow(path)].some(file => modifiedMs(file) > builtMs)
  })
}

/** Removes what was compiled from sources that are gone, so that no deleted test still runs. */
export function removeStale() {
  const dist = join(root, 'dist')
  for (const file of filesBelow(dist)) {
    const source = /^(.*)\.js(\.map)?$/.exec(relative(dist, file))?.[1]
    if (source !== undefined && !existsSync(join(root, `${source}.ts`))) rmSync(file)
  }
}

/** Compiled test files below these folders of dist, sorted. */
export function testFiles(...folders) {
  return folders
    .flatMap(folder => filesBelow(join(root, 'dist', folder)))
    .filter(file => file.endsWith('.test.js'))
    .map(file => relative(root, file))
    .sort()
}

/** All files below a folder; none when there is no such folder. */
function filesBelow(folder) {
  if (!existsSync(folder) || !statSync(folder).isDirectory()) return []
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? filesBelow(path) : [path]
  })
}

function modifiedMs(path) {
  return statSync(path).mtimeMs
}
