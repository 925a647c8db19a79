import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

/** Rules of the code that no compiler and no linter knows. */
const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..')

/** Folders of `src` from the bottom to the top: an import may only point down. Those in one row are strangers. */
const layers = [
  ['runtime'],
  ['config'],
  ['wire', 'sql', 'auth', 'store'],
  ['topology'],
  ['routing', 'probe'],
  ['proxy', 'agent', 'ha', 'vip'],
  ['admin', 'demo', 'integrations'],
  ['cli'],
]
const levelOf = new Map(layers.flatMap((row, level) => row.map(folder => [folder, level] as const)))

/** Folders whose code decides and never acts: neither sockets nor files nor processes. */
const pureFolders = new Set(['wire', 'sql', 'auth', 'routing'])
const impureModules = /^node:(net|tls|http|https|fs|dgram|dns|child_process|cluster|worker_threads|os|timers)/

/** What reads clocks, chance, the environment or writes to the terminal is handed in, from these folders. */
const mayBeImpure = new Set(['runtime', 'config', 'cli'])
const bannedCalls = [
  /\bDate\.now\b/,
  /\bnew Date\(\)/,
  /\bperformance\.now\b/,
  /\b(setTimeout|setInterval|setImmediate)\b/,
  /\bMath\.random\b/,
  /(?<![.\w])console\.(?:log|info|warn|error|debug|trace|table|dir)\b/,
  /\bprocess\.env\b/,
]

interface Source {
  path: string
  folder: string
  text: string
  isTest: boolean
}

const sources: Source[] = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter(path => path.endsWith('.ts'))
  .map(path => ({
    path,
    folder: path.includes('/') ? path.slice(0, path.indexOf('/')) : '',
    text: readFileSync(join(root, 'src', path), 'utf8'),
    isTest: path.endsWith('.test.ts'),
  }))

function importsOf({ text }: Source): string[] {
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(match => match[1]!)
}

/** Code without comments and strings, so that words in them do not count. */
function codeOf({ text }: Source): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/\/\/.*$/gm, '')
    .replace(/'(?:[^'\\\n]|\\.)*'/g, "''")
}

test('there is code to look at', () => {
  assert.ok(sources.length > 80)
})

test('every folder of src has its place in the layers', () => {
  const folders = new Set(sources.map(({ folder }) => folder).filter(folder => folder !== ''))
  assert.deepEqual(
    [...folders].filter(folder => !levelOf.has(folder)),
    [],
  )
})

test('imports point downwards only', () => {
  const upward: string[] = []
  for (const source of sources) {
    if (source.folder === '' || source.isTest) continue
    for (const target of importsOf(source)) {
      if (!target.startsWith('.')) continue
      const path = relative(join(root, 'src'), resolve(root, 'src', dirname(source.path), target))
      const folder = path.slice(0, path.indexOf('/'))
      if (folder === source.folder) continue
      if ((levelOf.get(folder) ?? Infinity) >= levelOf.get(source.folder)!)
        upward.push(`${source.path} -> ${path}`)
    }
  }
  assert.deepEqual(upward, [])
})

test('pure folders touch neither network nor files nor processes', () => {
  const impure = sources
    .filter(source => pureFolders.has(source.folder) && !source.isTest)
    .flatMap(source =>
      importsOf(source)
        .filter(target => impureModules.test(target))
        .map(target => `${source.path}: ${target}`),
    )
  assert.deepEqual(impure, [])
})

test('clock, timers, chance, environment and terminal come by injection', () => {
  const found: string[] = []
  for (const source of sources) {
    if (mayBeImpure.has(source.folder) || source.isTest || source.folder === '') continue
    const code = codeOf(source)
    for (const banned of bannedCalls) if (banned.test(code)) found.push(`${source.path}: ${banned.source}`)
  }
  assert.deepEqual(found, [])
})

test('every dependency has its reason, and no reason outlives its dependency', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<
    string,
    Record<string, string>
  >
  const kinds = ['dependencies', 'devDependencies', 'optionalDependencies']
  const used = kinds.flatMap(kind => Object.keys(manifest[kind] ?? {})).sort()
  const page = readFileSync(join(root, 'docs/dependencies.md'), 'utf8')
  const told = [...page.matchAll(/^\| `([^`]+)`/gm)].map(match => match[1]!).sort()
  assert.deepEqual(told, used)
})

test('the lock file carries no addresses to download from', () => {
  assert.doesNotMatch(readFileSync(join(root, 'package-lock.json'), 'utf8'), /"resolved"/)
})

test('links in the documents lead somewhere', () => {
  const documents = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...markdownIn('docs')]
  const broken: string[] = []
  for (const document of documents) {
    const text = readFileSync(join(root, document), 'utf8')
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?:|#|mailto:)/.test(target!)) continue
      const path = resolve(root, dirname(document), target!.split('#', 1)[0]!)
      if (!existsSync(path)) broken.push(`${document}: ${target}`)
    }
  }
  assert.deepEqual(broken, [])
})

function markdownIn(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.md'))
    .map(path => join(folder, path))
}
