import assert from 'node:assert/strict'
import { test } from 'node:test'
import { acceptsOthers, classifyFailure, retryDelayMs } from './failure.ts'

const where = '127.0.0.1:5432'
const fatal = (code: string, message: string): Error =>
  Object.assign(new Error(message), { code, severity: 'FATAL' })
const system = (code: string): Error => Object.assign(new Error(`connect ${code}`), { code })

test('errors are sorted by what they say about the server', () => {
  const kinds: [Error, string][] = [
    [fatal('57P03', 'the database system is starting up'), 'not_ready'],
    [fatal('57P01', 'terminating connection due to administrator command'), 'not_ready'],
    [fatal('57P02', 'terminating connection because of crash of another server process'), 'not_ready'],
    [fatal('53300', 'sorry, too many clients already'), 'busy'],
    [fatal('28P01', 'password authentication failed for user "pgherd"'), 'denied'],
    [fatal('28000', 'no pg_hba.conf entry'), 'denied'],
    [fatal('3D000', 'database "x" does not exist'), 'denied'],
    [fatal('42501', 'permission denied for function pg_control_system'), 'denied'],
    [new Error('SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a non-empty string'), 'denied'],
    [system('ECONNREFUSED'), 'unreachable'],
    [system('ENOENT'), 'unreachable'],
    [new Error('Connection terminated unexpectedly'), 'unreachable'],
    [system('ETIMEDOUT'), 'timeout'],
    [fatal('57014', 'canceling statement due to statement timeout'), 'timeout'],
  ]
  for (const [error, kind] of kinds) assert.equal(classifyFailure(error, where).kind, kind, error.message)
})

test('a reason names the server and what to do', () => {
  assert.match(
    classifyFailure(system('ECONNREFUSED'), where).reason,
    /127\.0\.0\.1:5432.*is PostgreSQL running there/,
  )
  assert.match(classifyFailure(fatal('53300', 'sorry'), where).reason, /raise max_connections/)
  assert.match(classifyFailure(fatal('28P01', 'refused'), where).reason, /28P01.*check its user, password/)
})

test('only a server that lives accepts others', () => {
  assert.ok(acceptsOthers('busy') && acceptsOthers('denied'))
  assert.ok(!acceptsOthers('unreachable') && !acceptsOthers('timeout') && !acceptsOthers('not_ready'))
})

test('retries grow and are bounded, and are rarer where each one is a line in the log', () => {
  assert.deepEqual(
    [1, 2, 3, 9].map(attempts => retryDelayMs('unreachable', attempts)),
    [250, 500, 1000, 1000],
  )
  assert.equal(retryDelayMs('denied', 1), 250)
  assert.equal(retryDelayMs('denied', 1_000_000), 10_000)
})
