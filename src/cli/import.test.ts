import assert from 'node:assert/strict'
import { test } from 'node:test'
import { recordingIo } from '../../test/support/command.ts'
import { addImportCommand } from './import.ts'
import { createProgram, runProgram } from './terminal.ts'

const ini = `[databases]
app = host=10.0.0.1 dbname=app_v2 password=hunter2
[pgbouncer]
listen_addr = 127.0.0.1
auth_file = /u
pool_mode = transaction
logfile = /var/log/b.log
`

async function run(files: Record<string, string>, ...args: string[]) {
  const io = recordingIo({ files })
  const program = createProgram(io, '1.2.3')
  const created = new Map<string, string>()
  addImportCommand(program, io, (path, text) => {
    if (path in files) throw Object.assign(new Error(path), { code: 'EEXIST' })
    created.set(path, text)
  })
  const code = await runProgram(program, ['import', ...args], io)
  return { code, out: io.out, err: io.err, created }
}

test('the configuration goes to standard output, what there is to say to standard error', async () => {
  const { code, out, err } = await run({ 'b.ini': ini, '/u': '' }, 'b.ini')
  assert.equal(code, 0, err)
  assert.match(out, /^# pgherd configuration, made of b\.ini/)
  assert.match(out, /^ {2}pool_mode: transaction$/m)
  assert.match(err, /^\d+ settings carried over, 1 node\n/)
  assert.match(
    err,
    /^Not carried over\n {2}\[databases\] app: password = \[redacted\] {2}b\.ini:2\n {4}With pgherd/m,
  )
  assert.doesNotMatch(out + err, /hunter2/)
})

test('with --output it goes to a new file', async () => {
  const { code, out, created } = await run({ 'b.ini': ini, '/u': '' }, 'b.ini', '--output', 'p.yaml')
  assert.equal(code, 0)
  assert.match(created.get('p.yaml') ?? '', /dbname: app_v2/)
  assert.match(out, /^p\.yaml written: \d+ settings/)
})

test('a file that is there is left as it is', async () => {
  const { code, err, created } = await run({ 'b.ini': ini, '/u': '', 'p.yaml': '' }, 'b.ini', '-o', 'p.yaml')
  assert.equal(code, 2)
  assert.equal(created.size, 0)
  assert.match(err, /^error: p\.yaml exists already, and is left as it is\nhint: /m)
})

test('as JSON', async () => {
  const { code, out } = await run({ 'b.ini': ini, '/u': '' }, 'b.ini', '--json')
  assert.equal(code, 0)
  const result = JSON.parse(out) as {
    output: null
    config: { nodes: unknown[] }
    notes: { name: string; outcome: string; why: string; line: number }[]
    problems: unknown[]
  }
  assert.deepEqual(result.config.nodes, [{ host: '10.0.0.1' }])
  assert.deepEqual(result.problems, [])
  const { outcome, line } = result.notes.find(({ name }) => name === 'logfile') ?? {}
  assert.deepEqual([outcome, line], ['dropped', 7])
})

test('what pgherd could not start with is told, with exit code 1', async () => {
  const { code, out, err } = await run({ 'b.ini': ini }, 'b.ini')
  assert.equal(code, 1)
  assert.match(out, /users_file: \/u/)
  assert.match(err, /warning: .*`proxy\.auth\.users_file` names `\/u`, which does not exist/)
  assert.match(err, /error: pgherd cannot start with this yet: 1 problem\n/)
})

test('what is no pgbouncer.ini is refused', async () => {
  for (const [text, message] of [
    ['{"a": 1}', /^error: b\.ini:1: neither a comment/],
    ['', /^error: b\.ini: neither \[databases\] nor/],
    ['a = 1', /^error: b\.ini: neither \[databases\] nor/],
  ] as const) {
    const { code, out, err } = await run({ 'b.ini': text }, 'b.ini')
    assert.equal(code, 2)
    assert.equal(out, '')
    assert.match(err, message)
  }
  assert.match((await run({}, 'b.ini')).err, /^error: b\.ini: the file does not exist/)
})
