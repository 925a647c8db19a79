// Makes the programs of test/compat/drivers ready to run, each ecosystem in a folder of the cache below node_modules,
// where `ready.json` says how that went. Nothing is done again while the sources stay as they are.
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root, runQuietly } from './support.mjs'

const sources = join(root, 'test/compat/drivers')
const cache = join(root, 'node_modules/.cache/pgherd-compat')
const buildLimitMs = 600_000

/** The programs that an ecosystem needs, and the commands that make its drivers ready in its folder. */
const ecosystems = [
  {
    name: 'node',
    drivers: ['node-postgres', 'postgres.js'],
    needs: ['npm'],
    build: [['npm', 'ci', '--ignore-scripts']],
  },
  {
    name: 'python',
    drivers: ['psycopg 2', 'psycopg 3', 'asyncpg'],
    needs: ['python3'],
    build: [
      ['python3', '-m', 'venv', 'venv'],
      ['venv/bin/python', '-m', 'pip', 'install', '--quiet', '--only-binary=:all:', '-r', 'requirements.txt'],
    ],
  },
  { name: 'go', drivers: ['pgx'], needs: ['go'], build: [['go', 'build', '-o', 'driver', '.']] },
  {
    name: 'java',
    drivers: ['pgjdbc'],
    needs: ['java', 'javac', 'mvn'],
    build: [
      ['mvn', '--batch-mode', '--quiet', 'dependency:copy-dependencies', '-DoutputDirectory=libraries'],
      [
        'javac',
        '-encoding',
        'UTF-8',
        '-Xlint:all',
        '-cp',
        'libraries/*',
        '-d',
        'classes',
        'Main.java',
        'Checks.java',
      ],
    ],
  },
  { name: 'rust', drivers: ['tokio-postgres'], needs: ['cargo'], build: [['cargo', 'build', '--quiet']] },
]

/**
 * Prepares all of them, two at once. Resolves to a list of `{ drivers, missing, problem }`: `missing` when this
 * machine has no such ecosystem, `problem` when it has one that failed.
 */
export async function prepareDrivers() {
  const waiting = [...ecosystems].reverse()
  const results = []
  const worker = async () => {
    for (let next = waiting.pop(); next; next = waiting.pop()) results.push(await prepare(next))
  }
  await Promise.all([worker(), worker()])
  return results
}

async function prepare({ name, drivers, needs, build }) {
  const folder = join(cache, name)
  const missing = await missingPrograms(needs)
  if (missing.length > 0) {
    return finish(folder, { drivers, missing: `${missing.join(', ')} not found in PATH` })
  }
  const hash = hashOf(join(sources, name))
  const known = readReady(folder)
  if (known?.hash === hash && known.problem === undefined) return known
  console.error(`making ready: ${drivers.join(', ')}`)
  mkdirSync(folder, { recursive: true })
  cpSync(join(sources, name), folder, { recursive: true })
  for (const [command, ...args] of build) {
    const { code, output } = await runQuietly(command, args, { cwd: folder, timeout: buildLimitMs })
    if (code === 0) continue
    const words = output.trim().split('\n').slice(-15).join('\n')
    return finish(folder, { drivers, problem: `${command} ${args[0]} failed with code ${code}: ${words}` })
  }
  return finish(folder, { drivers, hash })
}

function finish(folder, result) {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'ready.json'), `${JSON.stringify(result, undefined, 2)}\n`)
  return result
}

function readReady(folder) {
  const file = join(folder, 'ready.json')
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
}

async function missingPrograms(names) {
  const found = await Promise.all(
    names.map(name => runQuietly('sh', ['-c', 'command -v "$0"', name]).then(({ code }) => code === 0)),
  )
  return names.filter((_, i) => !found[i])
}

function hashOf(folder) {
  const hash = createHash('sha256')
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  for (const path of files.map(file => join(file.parentPath, file.name)).sort())
    hash.update(path.slice(folder.length)).update(readFileSync(path))
  return hash.digest('hex')
}
