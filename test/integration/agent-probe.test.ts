import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { after, afterEach, before, test } from 'node:test'
import { type PostgresAddress, Probe, type Sample } from '../../src/probe/probe.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import {
  caughtUp,
  connect,
  freezeServer,
  query,
  startTestCluster,
  type TestCluster,
  thawServer,
} from '../support/postgres.ts'
import { until } from '../support/wait.ts'

const timeoutMs = 1_000
const user = 'pgherd_agent'
let cluster: TestCluster
const probes: Probe[] = []

before(async () => {
  cluster = await startTestCluster({
    replicas: 1,
    settings: { max_connections: '20', superuser_reserved_connections: '3' },
  })
  await cluster.primary.query(`create role ${user} login password 'right'`)
  await cluster.primary.query(`grant pg_monitor to ${user}`)
  await caughtUp(cluster.primary, cluster.replicas[0]!)
})

afterEach(async () => {
  await Promise.all(probes.splice(0).map(probe => probe.close()))
})

after(() => cluster.stop())

function probeOf(
  server: { port: number },
  changes: Partial<PostgresAddress & { renewMs: number }> = {},
): Probe {
  const { renewMs = 60_000, ...address } = changes
  const probe = new Probe({
    postgres: { host: '127.0.0.1', port: server.port, user, database: 'postgres', ...address },
    timeoutMs,
    renewMs,
    applicationName: 'pgherd agent',
    clock: systemClock,
    timers: systemTimers,
  })
  probes.push(probe)
  return probe
}

async function facts(probe: Probe) {
  const sample = await probe.sample()
  assert.ok(sample.facts, sample.failure?.reason)
  return sample.facts
}

function sampleOf(probe: Probe, what: string, wanted: (sample: Sample) => boolean): Promise<Sample> {
  return until(what, async () => {
    const sample = await probe.sample()
    return wanted(sample) ? sample : undefined
  })
}

test('primary and replica as a role that has only pg_monitor', async () => {
  const { primary, replicas } = cluster
  await primary.query(`select pg_create_physical_replication_slot('spare', true)`)
  const [system] = await primary.query<{ id: string; version: string }>(
    `select system_identifier::text as id, current_setting('server_version_num') as version from pg_control_system()`,
  )
  const onPrimary = await facts(probeOf(primary))
  assert.equal(onPrimary.role, 'primary')
  assert.equal(onPrimary.systemId, system?.id)
  assert.equal(onPrimary.version, Number(system?.version))
  assert.equal(onPrimary.timeline, 1)
  assert.ok(onPrimary.writeLsn! > 0 && onPrimary.receiveLsn === undefined)
  assert.equal(onPrimary.connections.max, 20)
  assert.ok(onPrimary.connections.used >= 1 && onPrimary.connections.active === 0)
  assert.ok(onPrimary.checkpoint!.requested + onPrimary.checkpoint!.timed >= 0)
  const spare = onPrimary.slots.find(({ name }) => name === 'spare')
  assert.ok(spare && !spare.active && spare.retainedBytes >= 0)

  await caughtUp(primary, replicas[0]!)
  const probe = probeOf(replicas[0]!)
  const onReplica = await facts(probe)
  assert.equal(onReplica.role, 'replica')
  assert.equal(onReplica.systemId, system?.id)
  assert.equal(onReplica.timeline, 1)
  assert.equal(onReplica.replicationState, 'streaming')
  assert.equal(onReplica.upstream, `127.0.0.1:${primary.port}`)
  assert.ok(onReplica.receiveLsn! >= onPrimary.writeLsn!)
  assert.equal(onReplica.writeLsn, undefined)
  assert.equal((await sampleOf(probe, 'all replayed', s => s.facts?.lagMs === 0)).facts?.role, 'replica')
  await primary.query(`select pg_drop_replication_slot('spare')`)
})

test('a replica that does not replay is behind in bytes and in time', async () => {
  const { primary, replicas } = cluster
  const [replica] = replicas
  const probe = probeOf(replica!)
  await primary.query('create table behind as select 1 as x')
  await caughtUp(primary, replica!)
  await replica!.query('select pg_wal_replay_pause()')
  await primary.query('insert into behind select generate_series(1, 1000)')
  const { facts: behind } = await sampleOf(
    probe,
    'a lag shows',
    ({ facts }) => facts !== undefined && facts.receiveLsn! > facts.replayLsn! && facts.lagMs! > 0,
  )
  assert.equal(behind?.replicationState, 'streaming')
  await replica!.query('select pg_wal_replay_resume()')
  await sampleOf(probe, 'it has caught up', ({ facts }) => facts?.lagMs === 0)
})

test('sessions are counted by what they do', async () => {
  const { primary } = cluster
  const probe = probeOf(primary)
  const before = (await facts(probe)).connections
  const sessions = await Promise.all([connect(primary.port), connect(primary.port)])
  await sessions[0].query('begin')
  const sleeping = sessions[1].query('select pg_sleep(30)').catch(() => {})
  const { connections } = (await sampleOf(probe, 'one is active', s => s.facts?.connections.active === 1))
    .facts!
  assert.equal(connections.idleInTransaction, 1)
  assert.equal(connections.used, before.used + 2)
  await primary.query(
    `select pg_cancel_backend(pid) from pg_stat_activity where query = 'select pg_sleep(30)'`,
  )
  await sleeping
  await Promise.all(sessions.map(session => session.end()))
})

test('the unix socket, and a new connection every now and then, of which only one stays', async () => {
  const { primary } = cluster
  const [setting] = await primary.query<{ dirs: string }>(
    `select current_setting('unix_socket_directories') as dirs`,
  )
  const host = setting?.dirs.split(',')[0]?.trim()
  const probe = probeOf(primary, { renewMs: 0, ...(host && { host }) })
  const pids = new Set<number>()
  for (let i = 0; i < 5; i++) {
    await facts(probe)
    const sql = `select pid from pg_stat_activity where application_name = 'pgherd agent' and usename = '${user}' order by backend_start desc limit 1`
    pids.add((await primary.query<{ pid: number }>(sql))[0]!.pid)
  }
  assert.equal(pids.size, 5)
  await probe.close()
})

test('a restart, a connection that is thrown off, a server that is down', async () => {
  const [replica] = cluster.replicas
  const probe = probeOf(replica!)
  await facts(probe)
  await replica!.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = '${user}'`)
  assert.equal((await facts(probe)).role, 'replica')
  await replica!.stop()
  const down = await probe.sample()
  assert.equal(down.failure?.kind, 'unreachable')
  assert.match(down.failure.reason, new RegExp(`nothing answers at 127.0.0.1:${replica!.port}`))
  await replica!.start()
  await sampleOf(probe, 'it is back', ({ facts }) => facts?.role === 'replica')
})

test('a server that lets nobody in any more, while it still serves those inside', async () => {
  const [replica] = cluster.replicas
  const probe = probeOf(replica!, { renewMs: 0 })
  await facts(probe)
  const inside = await connect(replica!.port)
  const pid = await replica!.pid()
  process.kill(pid!, 'SIGTERM') // smart shutdown
  const { failure } = await sampleOf(probe, 'it is shutting down', sample => sample.failure !== undefined)
  assert.equal(failure?.kind, 'not_ready')
  assert.match(failure.reason, /shutting down/)
  assert.equal((await inside.query('select 1 as one')).rows[0].one, 1)
  await inside.end()
  await until('it has stopped', async () => (await replica!.pid()) === undefined)
  await replica!.start()
})

test('a hung server is noticed within the limit, with a connection and without, and when it is back', async () => {
  const [replica] = cluster.replicas
  const open = probeOf(replica!)
  await facts(open)
  await freezeServer(replica!)
  try {
    for (const probe of [open, probeOf(replica!)]) {
      const startMs = systemClock.nowMs()
      const { failure } = await probe.sample()
      assert.equal(failure?.kind, 'timeout')
      assert.match(failure.reason, /did not .* within 1000 ms/)
      assert.ok(systemClock.nowMs() - startMs < timeoutMs + 500)
    }
  } finally {
    await thawServer(replica!)
  }
  await sampleOf(open, 'it is back', ({ facts }) => facts?.role === 'replica')
})

test('closing does not wait for a hung server, nor does the sample under way', async () => {
  const [replica] = cluster.replicas
  const [idle, asking, connecting] = [probeOf(replica!), probeOf(replica!), probeOf(replica!)]
  await facts(idle)
  await facts(asking)
  await freezeServer(replica!)
  try {
    const startMs = systemClock.nowMs()
    const samples = [asking.sample(), connecting.sample()]
    await Promise.all([idle, asking, connecting].map(probe => probe.close()))
    assert.ok((await Promise.all(samples)).every(({ failure }) => failure !== undefined))
    assert.ok(systemClock.nowMs() - startMs < timeoutMs / 2)
  } finally {
    await thawServer(replica!)
  }
})

test('only the postmaster hangs: the open connection works, the next one tells', async () => {
  const [replica] = cluster.replicas
  const probe = probeOf(replica!, { renewMs: 0 })
  await facts(probe)
  const pid = (await replica!.pid())!
  process.kill(pid, 'SIGSTOP')
  try {
    assert.equal((await probe.sample()).failure?.kind, 'timeout')
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  await sampleOf(probe, 'it is back', ({ facts }) => facts?.role === 'replica')
})

test('no connection left: the open one goes on with a warning, a new one is told', async () => {
  const { primary } = cluster
  const inside = probeOf(primary, { renewMs: 0 })
  await facts(inside)
  const others = []
  try {
    for (;;) others.push(await connect(primary.port, { user, password: 'right' }))
  } catch (error) {
    assert.equal((error as { code?: string }).code, '53300')
  }
  try {
    const sample = await inside.sample()
    assert.equal(sample.facts?.role, 'primary')
    assert.ok('warning' in sample && sample.warning?.kind === 'busy')
    assert.equal((await probeOf(primary).sample()).failure?.kind, 'busy')
  } finally {
    await Promise.all(others.map(client => client.end()))
  }
})

test('wrong password, no such role, no right: denied, said why, and the password stays secret', async () => {
  const { primary } = cluster
  const [hba] = await primary.query<{ file: string }>(`select current_setting('hba_file') as file`)
  const rules = await readFile(hba!.file, 'utf8')
  const reload = async (text: string): Promise<void> => {
    await writeFile(hba!.file, text)
    await query(primary.port, 'select pg_reload_conf()')
  }
  await query(primary.port, 'create role pgherd_nobody login')
  await query(primary.port, 'revoke execute on function pg_control_system() from public')
  try {
    const forbidden = await probeOf(primary, { user: 'pgherd_nobody' }).sample()
    assert.equal(forbidden.failure?.kind, 'denied')
    assert.match(forbidden.failure.reason, /pg_control_system.*42501/)
    await query(primary.port, 'grant execute on function pg_control_system() to public')

    await reload(`host all ${user} 127.0.0.1/32 scram-sha-256\n${rules}`)
    const wrong = await until('the password is asked for', async () => {
      const { failure } = await probeOf(primary, { password: 'guessed-wrong' }).sample()
      return failure
    })
    assert.equal(wrong.kind, 'denied')
    assert.match(wrong.reason, /28P01/)
    assert.ok(!wrong.reason.includes('guessed-wrong'))
    assert.equal((await probeOf(primary).sample()).failure?.kind, 'denied')
    assert.equal((await facts(probeOf(primary, { password: 'right' }))).role, 'primary')
    const missing = await probeOf(primary, { user: 'nobody_there' }).sample()
    assert.equal(missing.failure?.kind, 'denied')
  } finally {
    await reload(rules)
  }
})

test('a promotion shows role and timeline at once', async () => {
  const { primary, replicas } = cluster
  const [replica] = replicas
  const probe = probeOf(replica!)
  assert.equal((await facts(probe)).role, 'replica')
  await primary.stop()
  await replica!.promote()
  const { facts: promoted } = await sampleOf(probe, 'promoted', ({ facts }) => facts?.role === 'primary')
  assert.equal(promoted?.timeline, 2)
  assert.ok(promoted.writeLsn! > 0 && promoted.receiveLsn === undefined)
})
