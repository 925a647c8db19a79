import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatProblem } from '../config/problem.ts'
import { loadChecked } from './load-checked.ts'

function load(files: Record<string, string>, sections?: 'store'[]) {
  const readFile = (path: string) => {
    const text = files[path]
    if (text === undefined) throw Object.assign(new Error(path), { code: 'ENOENT' })
    return { text, mode: 0o600 }
  }
  const loaded = loadChecked('/p.yaml', { env: {}, readFile, sections })
  const problems = loaded.ok ? [] : loaded.problems.map(formatProblem)
  return { ok: loaded.ok, problems, warnings: loaded.warnings.map(formatProblem) }
}

const rules = (...lines: string[]) => `proxy:\n  auth:\n    method: proxy\n    rules:\n${lines.join('\n')}\n`
const good = '      - {type: host, database: all, user: all, address: all, method: md5}'

test('a rule that is not understood has its place in the file', () => {
  assert.deepEqual(load({ '/p.yaml': rules(good) }), { ok: true, problems: [], warnings: [] })
  const { ok, problems } = load({ '/p.yaml': rules(good, good.replace('md5', 'mdx')) })
  assert.equal(ok, false)
  assert.match(
    problems.join(),
    /^\/p\.yaml:6:9: `proxy\.auth\.rules\[1\]`: the method "mdx" is not supported/,
  )
})

test('so has one in a file of rules', () => {
  const text = 'proxy: {auth: {method: proxy, hba_file: hba.conf}}'
  assert.ok(load({ '/p.yaml': text, '/hba.conf': 'host all all all md5\n' }).ok)
  const { problems } = load({ '/p.yaml': text, '/hba.conf': 'host all all all md5\nhost all all\n' })
  assert.match(problems.join(), /^\/hba\.conf:2:1: /)
})

test('a broken line of the users file is a warning that shows no secret', () => {
  const text = rules(good).replace('rules:', 'users_file: users\n    rules:')
  const { ok, warnings } = load({ '/p.yaml': text, '/users': '"a" "b"\n"c" hunter2\n' })
  assert.ok(ok)
  assert.match(warnings.join(), /^\/users:2:1: /)
  assert.doesNotMatch(warnings.join(), /hunter2/)
})

test('a command that needs no proxy does not look into its files', () => {
  assert.ok(load({ '/p.yaml': rules(good.replace('md5', 'mdx')) }, ['store']).ok)
})
