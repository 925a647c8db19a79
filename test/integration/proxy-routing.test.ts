import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { writeQuery } from '../../src/wire/messages.ts'
import { writeStartup } from '../../src/wire/startup.ts'
import { cliJson } from '../support/cli.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { need } from '../support/need.ts'
import { caughtUp, connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const execFileAsync = promisify(execFile)

/** Reads and writes on one port: every statement goes where it is right. */
let cluster: TestCluster
let host: Host
let port: number

const primary = (): number => cluster.primary.port
/** Where a statement ran, said by the server; it reads a table, so that it is no constant. */
const place = `select current_setting('port')::int as port, count(*)::int as n from items`

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
  await cluster.primary.query(`create table items (id int primary key, name text);
    insert into items select i, 'name ' || i from generate_series(1, 100) i;
    create unlogged table notes (id int);
    create function loud(int) returns int language sql volatile as 'select $1';
    create function quiet(int) returns int language sql stable as 'select $1';
    create view all_items as select * from items;
    create sequence numbers`)
  for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
  host = await startTestHost(
    await testConfig(
      [cluster.primary, ...cluster.replicas].map(({ name, port: at }) => ({ name, port: at })),
      { 'proxy.workers': 2 },
    ),
  )
  port = host.config.proxy.port
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

const replicaPorts = (): number[] => cluster.replicas.map(each => each.port)

async function withClient<T>(use: (client: Client) => Promise<T>, options = ''): Promise<T> {
  const client = await connect(port, options === '' ? {} : { options })
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

/** Where a statement runs when it was seen often enough to be known. */
async function placeOf(client: Client, sql: string): Promise<number> {
  let at = 0
  for (let each = 0; each < 10; each++) at = Number((await client.query(sql)).rows[0].port)
  return at
}

/** A replica that was behind a moment ago is not waited for at once. */
async function untilReadOnReplica(client: Client, sql: string): Promise<void> {
  await until('it is read on a replica', async () => replicaPorts().includes(await placeOf(client, sql)))
}

async function untilReadsAreRouted(): Promise<void> {
  await withClient(client =>
    until('reads go to replicas', async () =>
      replicaPorts().includes(Number((await client.query(place)).rows[0].port)),
    ),
  )
}

describe('reads and writes on one port', () => {
  before(untilReadsAreRouted)

  const reads: Record<string, string> = {
    'a select': place,
    'a view': `select current_setting('port') as port, max(id) from all_items`,
    'a stable function': `select current_setting('port') as port, quiet(1) from items`,
    'a CTE': `with a as (select * from items) select current_setting('port') as port from a`,
  }
  for (const [what, sql] of Object.entries(reads)) {
    test(`${what} goes to a replica`, async () => {
      await withClient(client =>
        until('it is read there', async () => replicaPorts().includes(await placeOf(client, sql))),
      )
    })
  }

  const writes: Record<string, string> = {
    'a volatile function': `select current_setting('port') as port, loud(1) from items`,
    'a row lock': `select current_setting('port') as port, id from items where id = 1 for update`,
    'a writing CTE': `with a as (update items set name = name where id = 1 returning *)
      select current_setting('port') as port from a`,
    'what asks the server about itself and reads no table': `select current_setting('port') as port`,
    nextval: `select current_setting('port') as port, nextval('numbers')`,
    'an advisory lock': `select current_setting('port') as port, pg_advisory_xact_lock(1)`,
    'what a hint sends there': `/* pgherd: route=primary */ ${place}`,
    'a strong read': `/* pgherd: consistency=strong */ ${place}`,
  }
  for (const [what, sql] of Object.entries(writes)) {
    test(`${what} goes to the primary`, async () => {
      await withClient(async client => assert.equal(await placeOf(client, sql), primary()))
    })
  }

  test('prepared statements too', async () => {
    await withClient(async client => {
      const ports = new Set<number>()
      for (let each = 0; each < 8; each++) {
        const read = await client.query({ name: 'one', text: `${place} where id > $1`, values: [each] })
        assert.equal(read.rows[0].n, 100 - each)
        ports.add(read.rows[0].port)
      }
      assert.ok([...ports].some(each => replicaPorts().includes(each)))
    })
  })

  test('a transaction that only reads is on a replica until something else is asked in it', async () => {
    await withClient(async client => {
      await client.query('begin')
      assert.equal(await placeOf(client, place), primary())
      await client.query('commit')
      await until('it is on a replica', async () => {
        await client.query('rollback')
        await client.query('begin read only')
        return replicaPorts().includes(await placeOf(client, place))
      })
      assert.equal(await placeOf(client, `select current_setting('port') as port, loud(1)`), primary())
      assert.equal(await placeOf(client, place), primary())
      await assert.rejects(client.query(`insert into items values (0, 'x')`), { code: '25006' })
      await client.query('rollback')
      for (const level of ['serializable', 'repeatable read']) {
        await client.query(`begin read only isolation level ${level}`)
        assert.equal(await placeOf(client, place), primary())
        await client.query('commit')
      }
      await client.query(`insert into items values (1000, 'x')`)
      await client.query('delete from items where id = 1000')
    })
  })

  const keepers = [
    'select pg_advisory_lock(7)',
    'select pg_advisory_xact_lock(8)',
    'declare cursor_of_it cursor with hold for select * from items',
    'prepare prepared_of_it as select 1',
    `select set_config('work_mem', '8MB', false)`,
    'listen somebody',
    'savepoint one',
    'set local work_mem = 9000',
  ]
  for (const keeper of keepers) {
    test(`after a transaction that only reads, with ${keeper}, writes go to the primary`, async () => {
      await withClient(async client => {
        await client.query('begin read only')
        await placeOf(client, place)
        await client.query(keeper)
        assert.equal(await placeOf(client, place), primary())
        await client.query('commit')
        await client.query('insert into items values (5000)')
        await client.query('delete from items where id = 5000')
      })
    })
  }

  test('what comes in one piece with the end of such a transaction is looked at by itself', async () => {
    const client = await WireClient.open(port)
    for (const end of ['commit', 'rollback']) {
      await client.query('begin read only')
      for (let each = 0; each < 8; each++) await client.query(place)
      const from = client.received.length
      client.send(
        Buffer.concat(
          [end, 'insert into items values (6000)', 'delete from items where id = 6000'].map(writeQuery),
        ),
      )
      await until(
        'all are answered',
        () => client.received.slice(from).filter(({ code }) => code === 'Z').length === 3,
      )
      assert.equal(client.error, undefined)
    }
    client.close()
  })

  test('a statement of such a transaction sees what was acknowledged before it came', async () => {
    await withClient(reader =>
      withClient(async writer => {
        const count = 'select count(*)::int as port from items'
        for (let each = 0; each < 5; each++) {
          await reader.query('begin read only')
          const before = await placeOf(reader, count)
          await writer.query(`insert into items values (${7000 + each})`)
          assert.equal((await reader.query(count)).rows[0].port, before + 1)
          await reader.query('commit')
        }
        await writer.query('delete from items where id >= 7000')
      }),
    )
  })

  test('a write that comes in one piece with the next BEGIN is seen by whoever reads after its answer', async () => {
    const writer = await WireClient.open(port)
    await withClient(async reader => {
      await placeOf(reader, 'select max(id)::int as port from items')
      for (let id = 8000; id < 8040; id++) {
        const from = writer.received.length
        writer.send(Buffer.concat([`insert into items values (${id})`, 'begin'].map(writeQuery)))
        await until(
          'both are answered',
          () => writer.received.slice(from).filter(({ code }) => code === 'Z').length === 2,
        )
        assert.equal((await reader.query('select max(id)::int as port from items')).rows[0].port, id)
        await writer.query('commit')
      }
    })
    await writer.query('delete from items where id >= 8000')
    writer.close()
  })

  test('what asks where it would go is never run', async () => {
    const explain = '/* pgherd: explain */ delete from items'
    const left = async (): Promise<unknown> =>
      (await cluster.primary.query('select count(*)::int as n from items'))[0]
    await withClient(async client => {
      await assert.rejects(client.query({ name: 'explain', text: explain }), { code: '0A000' })
      await client.query('create temporary table mine (i int)')
      await assert.rejects(client.query(explain), { code: '0A000' })
      await client.query('drop table mine')
      await client.query('begin; select 1')
      await assert.rejects(client.query(explain), { code: '0A000' })
      await client.query('rollback')
      await client.query(`\n ${explain}`)
    })
    const replaying = await WireClient.open(port)
    replaying.send(Buffer.concat(['select 1', explain].map(writeQuery)))
    await until('it is refused', () => replaying.error?.get('C') === '0A000')
    replaying.close()
    const other = await startTestHost(
      await testConfig([{ name: 'a', port: primary() }], { 'proxy.pool_mode': 'session' }),
    )
    try {
      await untilRolesAreKnown(other)
      const client = await connect(other.config.proxy.port)
      await assert.rejects(client.query(explain), { code: '42601' })
      await assert.rejects(client.query({ name: 'explain', text: explain }), { code: '42601' })
      await client.end()
    } finally {
      await other.stop()
    }
    assert.deepEqual(await left(), { n: 100 })
  })

  test('a session begins on the port for reads while its replicas lag', async () => {
    const replayed = (pg: string) =>
      Promise.all(cluster.replicas.map(replica => replica.query(`select pg_wal_replay_${pg}()`)))
    await replayed('pause')
    try {
      await query(port, 'insert into items values (9000)')
      const options = { options: '-c application_name=lagging' }
      const reader = await connect(host.config.proxy.read_port, options)
      assert.equal((await reader.query('select max(id)::int as id from items')).rows[0].id, 9000)
      await reader.end()
    } finally {
      await replayed('resume')
      await query(port, 'delete from items where id = 9000')
    }
  })

  test('sessions and hints say where, and what they cannot say is refused', async () => {
    await withClient(async client => {
      await client.query(`set pgherd.route = 'primary'`)
      assert.equal(await placeOf(client, place), primary())
      await client.query(`set pgherd.route = replica`)
      await untilReadOnReplica(client, `select current_setting('port') as port, loud(2)`)
      await client.query(`reset pgherd.route`)
      await client.query(`set pgherd.consistency to 'strong'`)
      assert.equal(await placeOf(client, place), primary())
      await client.query(`set pgherd.consistency = 'bounded:1000'`)
      await untilReadOnReplica(client, place)
      for (const wrong of [
        `set pgherd.consistency = 'cusal'`,
        `set pgherd.route = 'standby'`,
        `set pgherd.token = 'x'`,
        `set session pgherd.route to 7`,
      ])
        await assert.rejects(client.query(wrong), { code: '22023' }, wrong)
      assert.equal(
        (await client.query('show pgherd.consistency')).rows[0]['pgherd.consistency'],
        'bounded:1000',
      )
    })
    await withClient(
      async client => assert.equal(await placeOf(client, place), primary()),
      '-c pgherd.route=primary',
    )
  })

  test('SHOW tells what counts, before anything is set and after it is not any more', async () => {
    const shown = async (client: Client, setting: string, name = ''): Promise<unknown> => {
      const text = `SHOW pgherd.${setting}`
      const { rows } = await client.query({ text, ...(name !== '' && { name }) })
      return rows[0][`pgherd.${setting}`]
    }
    await withClient(async client => {
      assert.equal(await shown(client, 'route'), 'auto')
      assert.equal(await shown(client, 'consistency'), 'causal')
      assert.equal(await shown(client, 'consistency', 'named'), 'causal')
      await client.query('begin')
      await client.query(`set local pgherd.route = 'Replica'`)
      assert.equal(await shown(client, 'route'), 'Replica')
      await client.query('commit')
      assert.equal(await shown(client, 'route'), 'auto')
      await client.query(`set pgherd.consistency = 'bounded:20'`)
      assert.equal(await shown(client, 'consistency', 'named'), 'bounded:20')
      await client.query('reset pgherd.consistency')
      assert.equal(await shown(client, 'consistency'), 'causal')
      await client.query(`select set_config('pgherd.route', 'nowhere', false)`)
      assert.equal(await shown(client, 'route'), 'auto', 'what cannot be counts as not said')
      await assert.rejects(shown(client, 'rout'), { code: '42704' })
    })
    await withClient(
      async client => assert.equal(await shown(client, 'route'), 'primary'),
      '-c pgherd.route=primary',
    )
    const reader = await connect(host.config.proxy.read_port)
    assert.equal(await shown(reader, 'consistency'), 'causal')
    await reader.end()
  })

  test('a token tells another session what to see', async () => {
    await withClient(async writer => {
      await writer.query('insert into items values (2000)')
      for (const name of ['', 'token']) {
        const { rows } = await writer.query({ text: 'SHOW pgherd.token', ...(name !== '' && { name }) })
        assert.match(rows[0]['pgherd.token'], /^[0-9A-F]+\/[0-9A-F]+$/)
        await withClient(async reader => {
          await reader.query(`set pgherd.token = '${rows[0]['pgherd.token']}'`)
          await reader.query(`set pgherd.consistency = 'eventual'`)
          const seen = `select current_setting('port')::int as port from items where id = 2000`
          await untilReadOnReplica(reader, seen)
          // What no replica will have for long, the primary serves.
          await reader.query(`set pgherd.token = 'F/FFFFFFFF'`)
          assert.equal(await placeOf(reader, seen), primary())
        })
      }
      await writer.query('delete from items where id = 2000')
    })
  })

  test('what only a standby refuses runs on the primary, and is remembered', async () => {
    const before = (await proxyCounters(host.config.admin.port)).routed.primary.refused
    const refused = async (): Promise<number> =>
      (await proxyCounters(host.config.admin.port)).routed.primary.refused - before
    await withClient(client =>
      until('it is counted', async () => {
        assert.deepEqual((await client.query('select count(*)::int as n from notes')).rows, [{ n: 0 }])
        return (await refused()) > 1
      }),
    )
  })

  test('an error is the client’s, wherever it comes from', async () => {
    await withClient(async client => {
      for (let each = 0; each < 5; each++)
        await assert.rejects(client.query('select 1 / (id - id) from items'), { code: '22012' })
    })
  })

  test('a client that was not asked does not learn of standbys', async () => {
    await withClient(async client => {
      await untilReadOnReplica(client, place)
      assert.equal((await client.query('show transaction_read_only')).rows[0].transaction_read_only, 'off')
      assert.equal((await client.query('select pg_is_in_recovery() as is')).rows[0].is, false)
    })
  })

  test('what was written is read, at once and by everybody', async () => {
    const clients = await Promise.all(Array.from({ length: 6 }, () => connect(port)))
    try {
      await query(port, 'create table if not exists counters (id int primary key, value int)')
      await query(port, 'insert into counters values (1, 0) on conflict do nothing')
      for (let value = 1; value <= 60; value++) {
        await clients[value % 6]!.query('update counters set value = $1 where id = 1', [value])
        const seen = await Promise.all(
          clients.map(client => client.query('select value from counters where id = 1')),
        )
        assert.deepEqual(
          seen.map(({ rows }) => rows[0].value),
          clients.map(() => value),
        )
      }
      const { routed } = await proxyCounters(host.config.admin.port)
      assert.ok(routed.replica > 100, JSON.stringify(routed))
    } finally {
      await Promise.all(clients.map(client => client.end()))
    }
  })

  test('where a statement would go is told, and nothing is run', async () => {
    interface Explained {
      reads: boolean
      route: string
      role: string
      node: string
      refusal?: string
      nodes: { node: string; isCandidate: boolean; score?: number }[]
    }
    const explained = (sql: string): Promise<Explained> =>
      cliJson<Explained>(['explain', '--json', '-p', String(port), sql])
    const read = await explained('select * from items where id = 7')
    assert.deepEqual([read.reads, read.route, read.role], [true, 'replica', 'replica'])
    assert.ok(['b', 'c'].includes(read.node))
    assert.deepEqual(read.nodes.map(({ node, isCandidate }) => [node, isCandidate]).slice(0, 1), [
      ['a', false],
    ])
    const scores = read.nodes.flatMap(({ score }) => score ?? [])
    const { score } = read.nodes.find(({ node }) => node === read.node)!
    assert.equal(score, Math.min(...scores), 'the better of two')
    const written = await explained('delete from items')
    assert.deepEqual(
      [written.reads, written.route, written.node, written.refusal],
      [false, 'primary', 'a', 'not_read'],
    )
    assert.equal((await query(port, 'select count(*)::int as n from items'))[0]?.['n'], 100)
    const strong = await explained('/* pgherd: consistency=strong */ select 1')
    assert.equal(strong.route, 'replica', 'a comment further on is none for pgherd')
    await withClient(async client => {
      const { rows } = await client.query<{ pgherd: string }>(
        '/* pgherd: explain */ select loud(1) from items',
      )
      assert.match(
        rows.map(row => row.pgherd).join('\n'),
        /calls a function that is volatile\n.*\nGoes to the primary a/,
      )
    })
  })

  test('target_session_attrs finds the port that it asks for', need('psql'), async () => {
    const { port: at, read_port: readAt } = host.config.proxy
    const ask = async (attributes: string, ports: string): Promise<string> => {
      const { stdout } = await execFileAsync('psql', [
        `host=127.0.0.1,127.0.0.1 port=${ports} user=postgres dbname=postgres target_session_attrs=${attributes}`,
        '-Atc',
        `select current_setting('port') || case when pg_is_in_recovery() then ' standby' else ' primary' end`,
      ])
      return stdout.trim()
    }
    for (const ports of [`${at},${readAt}`, `${readAt},${at}`]) {
      for (const attributes of ['read-write', 'primary']) {
        assert.equal(await ask(attributes, ports), `${primary()} primary`, `${attributes} ${ports}`)
      }
      for (const attributes of ['read-only', 'standby', 'prefer-standby']) {
        assert.match(await ask(attributes, ports), / standby$/, `${attributes} ${ports}`)
      }
    }
  })

  test('a token carries what was written through one proxy to the readers of another', async () => {
    const [b, c] = cluster.replicas
    const other = await startTestHost(
      await testConfig(
        [cluster.primary, ...cluster.replicas].map(({ name, port: at }) => ({ name, port: at })),
      ),
    )
    const replayed = (pg: string) =>
      Promise.all([b!, c!].map(replica => replica.query(`select pg_wal_replay_${pg}()`)))
    try {
      await untilRolesAreKnown(other)
      const reader = await connect(other.config.proxy.port)
      const last = 'select max(id)::int as port from items'
      await until('it reads from replicas', async () => {
        await reader.query(last)
        return (await proxyCounters(other.config.admin.port)).routed.replica > 0
      })
      await replayed('pause')
      const { rows } = await withClient(async writer => {
        await writer.query('insert into items values (3000)')
        return writer.query<Record<string, string>>('show pgherd.token')
      })
      assert.equal(await placeOf(reader, last), 100, 'the other proxy has acknowledged nothing')
      await reader.query(`set pgherd.token = '${rows[0]!['pgherd.token']}'`)
      assert.equal(await placeOf(reader, last), 3000)
      await reader.end()
    } finally {
      await replayed('resume')
      await query(port, 'delete from items where id = 3000')
      await other.stop()
    }
  })

  test('a server that is lost while its client waits for what it must see costs nobody anything', async () => {
    const replayed = (pg: string) =>
      Promise.all(cluster.replicas.map(replica => replica.query(`select pg_wal_replay_${pg}()`)))
    const others = `select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = '' and backend_type = 'client backend' and pid <> pg_backend_pid()`
    await replayed('pause')
    try {
      await query(port, 'insert into items values (4000)')
      const client = new WireClient(host.config.proxy.read_port)
      client.expectMessages()
      // It asks before it knows that its session has begun, and so on the server on which that begins.
      const parameters = { user: 'postgres', database: 'postgres', options: '-c work_mem=7MB' }
      const last = writeQuery('select max(id)::int from items')
      client.send(Buffer.concat([writeStartup(new Map(Object.entries(parameters))), last]))
      for (let each = 0; each < 25; each++) {
        for (const replica of cluster.replicas) await replica.query(others)
        await pause(systemTimers, 20)
      }
      await replayed('resume')
      const row = await until('it is answered', () => client.received.find(({ code }) => code === 'D'))
      assert.equal(row.body.toString('latin1', 6), '4000')
      assert.equal(client.error, undefined)
      client.close()
    } finally {
      await replayed('resume')
      await query(port, 'delete from items where id = 4000')
    }
  })
})
