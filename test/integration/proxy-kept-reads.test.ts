import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import {
  sync,
  writeBind,
  writeDescribeStatement,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../src/wire/messages.ts'
import { operationsOn, startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { caughtUp, connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** What clients see who keep their connection to a replica, while that replays late. */
let cluster: TestCluster
let host: Host
let lastId = 0

const replica = () => cluster.replicas[0]!
const readPort = (): number => host.config.proxy.read_port
const port = (): number => host.config.proxy.port

before(async () => {
  cluster = await startTestCluster({ replicas: 1, settings: { max_standby_streaming_delay: '-1' } })
  await cluster.primary.query(`create table items as select 0 as id;
    create role sessions login superuser;
    create role limited login connection limit 1; grant select on items to limited`)
  await caughtUp(cluster.primary, replica())
  host = await startTestHost(
    await testConfig(
      [cluster.primary, replica()].map(({ name, port: at }) => ({ name, port: at })),
      {
        'proxy.workers': 2,
        'routing.drain_timeout': '60s',
        'proxy.users': { sessions: { pool_mode: 'session' }, limited: { pool_mode: 'session' } },
      },
    ),
  )
  await untilRolesAreKnown(host)
  await until('what is written counts in all workers', async () => {
    const [row] = await query(port(), `select current_setting('port')::int as port, count(*) from items`)
    return row!['port'] === replica().port
  })
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

/** Writes through the proxy; gives back what is there from then on. */
async function write(): Promise<number> {
  await query(port(), `insert into items values (${++lastId})`)
  return lastId
}

/** Replay stands still, until `resume` is called or `use` has ended. */
async function whilePaused<T>(use: (resume: () => Promise<unknown>) => Promise<T>): Promise<T> {
  await caughtUp(cluster.primary, replica())
  const resume = () => replica().query('select pg_wal_replay_resume()')
  await replica().query('select pg_wal_replay_pause()')
  await until('replay is paused', async () => {
    const [row] = await replica().query<{ state: string }>('select pg_get_wal_replay_pause_state() as state')
    return row?.state === 'paused'
  })
  try {
    return await use(resume)
  } finally {
    await resume()
  }
}

async function withClient(
  options: { port?: number; user?: string; options?: string; setup?: string[] },
  use: (client: Client) => Promise<void>,
): Promise<void> {
  const { setup = [], port: at = readPort(), ...rest } = options
  const client = await connect(at, rest)
  try {
    for (const sql of setup) await client.query(sql)
    assert.equal(
      (await client.query(`select current_setting('port')::int as port`)).rows[0].port,
      replica().port,
    )
    await use(client)
  } finally {
    await client.end()
  }
}

const read = 'select max(id)::int as id from items'
async function seenBy(client: Client, values?: number[]): Promise<number> {
  const text = values ? `${read} where id > $1` : read
  return (await client.query(values ? { text, values } : text)).rows[0].id
}

/** Written while replay is paused, and read before it goes on. */
async function seesWhatWasWritten(client: Client, values?: number[]): Promise<void> {
  await whilePaused(async resume => {
    const id = await write()
    const seen = seenBy(client, values)
    await pause(systemTimers, 200)
    await resume()
    assert.equal(await seen, id)
  })
}

const kept: Record<string, Parameters<typeof withClient>[0]> = {
  'an advisory lock': { setup: ['select pg_advisory_lock(1)'] },
  'a held cursor': {
    setup: ['begin', 'declare held cursor with hold for select 1', 'commit'],
  },
  'a statement prepared in SQL': { setup: ['prepare one as select 1'] },
  'pool mode session': { user: 'sessions' },
}

for (const [what, options] of Object.entries(kept)) {
  test(`a session on a replica with ${what} sees what was acknowledged before it asked`, async () => {
    await withClient(options, async client => {
      await seesWhatWasWritten(client)
      await seesWhatWasWritten(client, [0])
    })
  })

  test(`the same in the first statement of a transaction, with ${what}`, async () => {
    await withClient(options, async client => {
      await client.query('begin')
      await seesWhatWasWritten(client)
      await client.query('commit')
      await client.query('begin isolation level repeatable read')
      await client.query('set local work_mem = 1024')
      await seesWhatWasWritten(client)
      // Its snapshot is that of its first statement, whatever is written.
      await whilePaused(async () => {
        const id = await write()
        assert.equal(await seenBy(client), id - 1)
        await client.query('commit')
      })
    })
  })

  test(`a replica that does not get there leads to an error, with ${what}`, async () => {
    await withClient(options, async client => {
      await whilePaused(async () => {
        const id = await write()
        const isStale = (error: { code: string; message: string; hint: string }): boolean =>
          error.code === '40001' && /b did not have/.test(error.message) && /eventual/.test(error.hint)
        await assert.rejects(seenBy(client), isStale)
        await assert.rejects(seenBy(client, [0]), isStale)
        await client.query('begin')
        await assert.rejects(seenBy(client), isStale)
        await assert.rejects(seenBy(client), { code: '25P02' })
        await client.query('rollback')
        assert.equal((await client.query(`/* pgherd: consistency=eventual */ ${read}`)).rows[0].id, id - 1)
        if (options.user === undefined) {
          await client.query(`set pgherd.consistency = 'eventual'`)
          assert.equal(await seenBy(client), id - 1)
          await client.query('reset pgherd.consistency')
        }
      })
      assert.equal(await seenBy(client), lastId)
    })
  })
}

test('a transaction of a client that keeps nothing waits with its first statement that sees data', async () => {
  await withClient({}, async client => {
    await client.query('begin')
    await client.query('set local work_mem = 1024')
    await seesWhatWasWritten(client)
    await client.query('commit')
    await client.query('/* as it is */ begin')
    await seesWhatWasWritten(client)
    await client.query('commit')
  })
})

test('on the port for reads a statement can say what it must see', async () => {
  await withClient({}, client =>
    whilePaused(async () => {
      const id = await write()
      const { rows } = await client.query(`/* pgherd: consistency=eventual */ ${read}`)
      assert.equal(rows[0].id, id - 1)
      assert.equal(await seenBy(client), id)
    }),
  )
})

test('a session that wants what the replica has gets it', async () => {
  const options = { user: 'sessions', options: '-c pgherd.consistency=eventual' }
  await withClient(options, client =>
    whilePaused(async () => {
      const id = await write()
      assert.equal(await seenBy(client), id - 1)
    }),
  )
})

test('who was sent to a replica from the port for everything, and is kept there, waits as well', async () => {
  const client = await connect(port())
  const place = `select current_setting('port')::int as port, count(*) from items`
  const isThere = async () => (await client.query(place)).rows[0].port === replica().port
  try {
    await client.query(`set pgherd.route = 'replica'`)
    // One that was behind a moment ago is not waited for.
    await until('it reads there', isThere)
    await client.query('select pg_advisory_lock(2)')
    assert.ok(await isThere())
    await seesWhatWasWritten(client)
    await client.query('begin')
    await seesWhatWasWritten(client)
    await client.query('commit')
  } finally {
    await client.end()
  }
})

for (const [what, options] of Object.entries({ nothing: {}, 'pool mode session': { user: 'sessions' } })) {
  test(`a transaction that begins in another way sees what was acknowledged before its first statement (${what})`, async () => {
    await withClient(options, async client => {
      for (const begin of [
        'begin; set transaction isolation level repeatable read',
        '-- as it is\nbegin',
        `begin; set local application_name = 'x'`,
      ]) {
        await client.query(begin)
        await seesWhatWasWritten(client)
        for (const chain of ['commit and chain', 'rollback and chain']) {
          await client.query(chain)
          await seesWhatWasWritten(client)
        }
        await client.query('rollback')
      }
    })
  })
}

test('a session that stays on a replica which is drained waits as before', async () => {
  await withClient({ user: 'sessions', setup: ['select pg_advisory_lock(4)'] }, async client => {
    await setNodeState(operationsOn(host), replica().name, 'drain', false)
    await until('it is drained', () => host.watcher.current().nodes.some(({ state }) => state === 'drain'))
    try {
      await whilePaused(async resume => {
        const id = await write()
        const seen = seenBy(client)
        // Longer than the time between two snapshots of the cluster.
        await pause(systemTimers, 1200)
        await resume()
        assert.equal(await seen, id)
      })
    } finally {
      await setNodeState(operationsOn(host), replica().name, 'active', false)
      await until('it is back', () => host.watcher.current().nodes.every(({ state }) => state === 'active'))
    }
  })
})

test('what nobody can ask for a user is no old answer, and keeps no other user from asking', async () => {
  const writer = await connect(port(), { user: 'limited' })
  await writer.query('begin')
  try {
    const [limited, other] = await Promise.all(
      ['limited', 'sessions'].map(user => connect(readPort(), { user })),
    )
    await Promise.all([limited!.query('show port'), other!.query('show port')])
    await whilePaused(async resume => {
      const id = await write()
      // Somebody else's question may tell it.
      const limitedSeen = seenBy(limited!).catch(({ code }) => code)
      await pause(systemTimers, 20)
      const seen = seenBy(other!)
      await pause(systemTimers, 300)
      await resume()
      assert.equal(await seen, id)
      assert.ok([id, '40001'].includes(await limitedSeen))
    })
    await whilePaused(async () => {
      await write()
      await assert.rejects(seenBy(limited!), { code: '40001' })
    })
    await Promise.all([limited!.end(), other!.end()])
  } finally {
    await writer.end()
  }
})

describe('byte by byte', () => {
  const errorsOf = (client: WireClient, from: number): (string | undefined)[] =>
    client.received
      .slice(from)
      .flatMap(({ code, body }) => (code === 'E' ? [/C(\w{5})/.exec(body.toString())?.[1]] : []))
  const countOf = (client: WireClient, code: string): number =>
    client.received.filter(each => each.code === code).length
  const rowsOf = (client: WireClient): string[] =>
    client.received.flatMap(({ code, body }) => (code === 'D' ? [body.subarray(6).toString()] : []))
  const flush = Buffer.from([0x48, 0, 0, 0, 4])
  const bound = Buffer.concat([writeParse('', read, []), writeBind('', ''), writeExecute('')])

  /** Sent while replay is paused, of which the last answer is a row of what was written before. */
  const seesBehind = (client: WireClient, messages: Buffer, answers: number): Promise<void> =>
    whilePaused(async resume => {
      const before = countOf(client, 'Z')
      const id = await write()
      client.send(messages)
      await pause(systemTimers, 200)
      await resume()
      await until('all is answered', () => countOf(client, 'Z') === before + answers)
      assert.equal(rowsOf(client).at(-1), `${id}`)
    })

  for (const user of ['postgres', 'sessions']) {
    test(`what comes before the answer to what came before (${user})`, async () => {
      const client = await WireClient.open(readPort(), { user })
      await client.query('prepare one as select 1')
      const before = countOf(client, 'Z')
      await whilePaused(async resume => {
        client.send(writeQuery('select pg_sleep(0.3)'))
        await pause(systemTimers, 50)
        const id = await write()
        client.send(writeQuery(read))
        client.send(Buffer.concat([bound, sync]))
        client.send(writeQuery('begin'))
        await pause(systemTimers, 500)
        assert.deepEqual(rowsOf(client).slice(1), [])
        client.send(writeQuery(read))
        await resume()
        await until('all is answered', () => countOf(client, 'Z') === before + 5)
        assert.deepEqual(rowsOf(client).slice(1), [`${id}`, `${id}`, `${id}`])
      })
      client.close()
    })

    test(`each request is refused by itself (${user})`, async () => {
      const client = await WireClient.open(readPort(), { user })
      await client.query('prepare one as select 1')
      const before = countOf(client, 'Z')
      const from = client.received.length
      await whilePaused(async () => {
        await write()
        client.send(Buffer.concat([writeQuery(read), bound, sync, writeQuery('show work_mem')]))
        await until('all is answered', () => countOf(client, 'Z') === before + 3)
        assert.deepEqual(errorsOf(client, from), ['40001', '40001'])
        assert.equal(rowsOf(client).length, 1)
      })
      assert.equal((await client.query(read)).length, 4)
      client.close()
    })
  }

  for (const user of ['postgres', 'sessions']) {
    test(`what comes with the end of a transaction sees what was acknowledged before (${user})`, async () => {
      const client = await WireClient.open(readPort(), { user })
      for (const [first, end] of [
        [read, 'commit'],
        ['select 1/0', 'rollback'],
      ] as const) {
        const before = countOf(client, 'Z')
        client.send(writeQuery('begin'))
        client.send(writeQuery(first))
        await until('it has begun', () => countOf(client, 'Z') === before + 2)
        await seesBehind(client, Buffer.concat([writeQuery(end), writeQuery(read)]), 2)
      }
      client.close()
    })

    test(`the first statement behind a BEGIN that was prepared does (${user})`, async () => {
      const client = await WireClient.open(readPort(), { user })
      await client.query('select pg_advisory_lock_shared(3)')
      const before = countOf(client, 'Z')
      client.send(Buffer.concat([writeParse('b', 'begin', []), sync]))
      client.send(Buffer.concat([writeBind('', 'b'), writeExecute(''), sync]))
      await until('it has begun', () => countOf(client, 'Z') === before + 2)
      await seesBehind(client, writeQuery(read), 1)
      client.close()
    })

    test(`a request of which only a part has come is refused as well (${user})`, async () => {
      const client = await WireClient.open(readPort(), { user })
      await client.query('prepare one as select 1')
      const before = countOf(client, 'Z')
      await whilePaused(async () => {
        await write()
        client.send(Buffer.concat([writeParse('', read, []), writeDescribeStatement(''), flush]))
        await until('it is refused', () => countOf(client, 'E') === 1)
        assert.deepEqual(errorsOf(client, 0), ['40001'])
        client.send(Buffer.concat([writeBind('', ''), writeExecute(''), sync]))
        await until('it is over', () => countOf(client, 'Z') === before + 1)
        assert.equal((await client.query('show work_mem')).length, 4)
      })
      assert.equal((await client.query(read)).length, 4)
      client.close()
    })
  }

  test('a goodbye does not wait', async () => {
    const client = await WireClient.open(readPort(), { user: 'sessions' })
    await client.query('select pg_advisory_lock(4242)')
    await whilePaused(async () => {
      await write()
      const sentMs = Date.now()
      client.send(Buffer.from([0x58, 0, 0, 0, 4]))
      await until('its lock is gone', async () => {
        const [row] = await replica().query<{ locks: number }>(
          `select count(*)::int as locks from pg_locks where locktype = 'advisory' and objid = 4242`,
        )
        return row!.locks === 0
      })
      assert.ok(Date.now() - sentMs < 1500)
    })
  })

  test('what waits for a replica can be cancelled', async () => {
    const client = await connect(readPort())
    await client.query('prepare one as select 1')
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
    await whilePaused(async () => {
      await write()
      const seen = assert.rejects(seenBy(client), { code: '57014' })
      await pause(systemTimers, 100)
      const cancel = new WireClient(readPort())
      const request = Buffer.alloc(16)
      for (const [at, word] of [16, 80877102, processID, secretKey].entries())
        request.writeInt32BE(word, 4 * at)
      cancel.send(request)
      await seen
      await client.query('show work_mem')
    })
    assert.equal(await seenBy(client), lastId)
    await client.end()
  })
})

for (const user of ['postgres', 'sessions'])
  test(`a worker that has just begun does not show what is old (${user})`, async () => {
    await whilePaused(async () => {
      const id = await write()
      host.restartWorkers()
      const reads: Promise<unknown>[] = []
      for (let i = 0; i < 10; i++) {
        const client = await connect(readPort(), { user })
        reads.push(
          seenBy(client)
            .then(
              seen => assert.equal(seen, id),
              // The worker before it ends its sessions.
              ({ code }) => assert.ok(['40001', '57P01'].includes(code), code),
            )
            .then(() => client.end()),
        )
        await pause(systemTimers, 100)
      }
      await Promise.all(reads)
    })
  })
