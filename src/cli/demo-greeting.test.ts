import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type GreetingFacts, greeting } from './demo-greeting.ts'

const facts: GreetingFacts = {
  tookMs: 1640,
  port: 6432,
  readPort: 6433,
  adminPort: 8432,
  adminPortDefault: 8432,
  npxPlace: 'in this folder',
  psql: 'psql',
  pgCtl: '/pg/pg_ctl',
  serverUser: undefined,
  primary: '/d/a',
  replica: '/d/b',
  colour: false,
}

test('every command stands in its column, and fits a terminal of 80', () => {
  const text = greeting(facts)
  assert.equal(
    text,
    `
pgherd is ready after 1.6 s. In another terminal:

  psql -h 127.0.0.1 -p 6432 -U postgres  reads and writes
  psql -h 127.0.0.1 -p 6433 -U postgres  reads, balanced over the replicas
  curl http://127.0.0.1:8432/metrics     Prometheus metrics

  npx finds pgherd in this folder:
  npx pgherd status         what is, and why
  npx pgherd node drain b   takes b out
  npx pgherd node resume b  brings it back

  A failover by hand: stop the primary, promote a replica, see the writes move.
  /pg/pg_ctl stop -D /d/a
  /pg/pg_ctl promote -D /d/b

Everyone on this machine can connect as superuser without a password.
Ctrl-C stops everything.
`,
  )
})

test('the commands reach this pgherd, also on other ports', () => {
  const text = greeting({ ...facts, adminPort: 18_432 })
  for (const command of ['status', 'node drain b', 'node resume b']) {
    assert.match(text, new RegExp(`npx pgherd ${command} --admin-url http://127\\.0\\.0\\.1:18432 `))
  }
  for (const line of text.split('\n')) assert.ok(line.length <= 80, line)
})

test('a package has its command on the PATH', () => {
  assert.match(greeting({ ...facts, npxPlace: undefined }), /\n {2}pgherd status /)
  assert.doesNotMatch(greeting({ ...facts, npxPlace: undefined }), /npx/)
})

test('what is not there is not offered', () => {
  assert.match(greeting({ ...facts, psql: undefined }), /no psql .*install postgresql-client/)
  assert.doesNotMatch(greeting({ ...facts, readPort: 0 }), /balanced/)
  assert.doesNotMatch(greeting({ ...facts, adminPort: 0 }), /curl|npx/)
})

test('where the servers run as somebody else, so does pg_ctl', () => {
  const text = greeting({ ...facts, serverUser: 'postgres' })
  assert.match(text, /\n {2}su postgres -s \/bin\/sh -c '\/pg\/pg_ctl stop -D \/d\/a'\n/)
})
