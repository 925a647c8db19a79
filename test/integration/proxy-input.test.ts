import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import type { DisconnectReason } from '../../src/proxy/client/failures.ts'
import { writeStartup } from '../../src/wire/startup.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig } from '../support/host.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Bad input costs its sender, with a clear error and a counter, and nobody else. */
let cluster: TestCluster
let host: Host
let port: number
let bystander: Client

before(async () => {
  cluster = await startTestCluster()
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.client_login_timeout': '500ms',
    'proxy.max_client_conn': 40,
  })
  host = await startTestHost(config)
  port = config.proxy.port
  bystander = await connect(port)
})

after(async () => {
  await bystander?.end()
  await host?.stop()
  await cluster?.stop()
})

const count = async (reason: DisconnectReason): Promise<number> =>
  (await proxyCounters(host.config.admin.port)).disconnects[reason]

async function counted(reason: DisconnectReason, cause: () => Promise<void>): Promise<void> {
  const before = await count(reason)
  await cause()
  await until(`${reason} is counted`, async () => (await count(reason)) > before)
  const { rows } = await bystander.query<{ one: number }>('select 1 as one')
  assert.equal(rows[0]?.one, 1)
}

test('a half-sent startup packet times out', async () => {
  await counted('login_timeout', async () => {
    const client = new WireClient(port)
    client.expectMessages()
    client.send(writeStartup(new Map([['user', 'postgres']])).subarray(0, 11))
    const error = await client.refused()
    assert.equal(error.get('C'), '57014')
    assert.match(error.get('M') ?? '', /did not finish within 500 ms/)
  })
})

test('a client that sends nothing times out', async () => {
  await counted('login_timeout', async () => {
    const client = new WireClient(port)
    client.expectMessages()
    await client.refused()
  })
})

test('a startup packet that claims a length of 1 GB is refused at once', async () => {
  await counted('protocol_violation', async () => {
    const client = new WireClient(port)
    client.expectMessages()
    client.send(Buffer.from([0x40, 0, 0, 0, 0, 3, 0, 0]))
    const error = await client.refused(400)
    assert.equal(error.get('C'), '08P01')
    assert.match(error.get('M') ?? '', /invalid length of startup packet: 1073741824 bytes/)
  })
})

test('a message that claims more than 1 GB ends its session', async () => {
  await counted('protocol_violation', async () => {
    const client = await WireClient.open(port)
    client.send(Buffer.from([0x51, 0x7f, 0xff, 0xff, 0xff]))
    const error = await client.refused()
    assert.equal(error.get('C'), '08P01')
    assert.match(error.get('M') ?? '', /impossible length/)
  })
})

test('a wrong protocol version is named', async () => {
  await counted('protocol_violation', async () => {
    const client = new WireClient(port)
    client.expectMessages()
    client.send(Buffer.from([0, 0, 0, 9, 0, 2, 0, 0, 0]))
    const error = await client.refused()
    assert.match(error.get('M') ?? '', /unsupported frontend protocol 2\.0/)
  })
})

test('an unknown message after the login is named', async () => {
  await counted('protocol_violation', async () => {
    const client = await WireClient.open(port)
    client.send(Buffer.from([0x21, 0, 0, 0, 4]))
    const error = await client.refused()
    assert.match(error.get('M') ?? '', /unknown message '!'/)
  })
})

test('a startup without a user is refused', async () => {
  await counted('login_refused', async () => {
    const client = new WireClient(port)
    client.startup({ database: 'postgres' })
    const error = await client.refused()
    assert.equal(error.get('C'), '28000')
  })
})

test('an unknown database is refused in the server’s own words', async () => {
  await counted('login_refused', async () => {
    const client = new WireClient(port)
    client.startup({ user: 'postgres', database: 'nowhere' })
    const error = await client.refused()
    assert.equal(error.get('C'), '3D000')
    assert.match(error.get('M') ?? '', /database "nowhere" does not exist/)
  })
})

test('random bytes, before and after the login, harm nobody', async () => {
  await counted('protocol_violation', async () => {
    const seeds = Array.from({ length: 15 }, () => randomBytes(1 + (randomBytes(1)[0]! % 200)))
    await Promise.all(
      seeds.map(async bytes => {
        const stranger = new WireClient(port)
        stranger.send(bytes)
        const guest = await WireClient.open(port)
        guest.send(bytes)
        guest.socket.end()
        await until(`both are closed after ${bytes.toString('hex')}`, () => stranger.closed && guest.closed)
      }),
    )
  })
})

test('SSLRequest and GSSENCRequest are answered with N, and the login goes on', async () => {
  const client = new WireClient(port)
  client.send(Buffer.from([0, 0, 0, 8, 4, 210, 22, 48]))
  await until('the answer to GSSENCRequest', () => client.raw.toString() === 'N')
  client.send(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]))
  await until('the answer to SSLRequest', () => client.raw.toString() === 'NN')
  client.startup({ user: 'postgres', database: 'postgres' })
  await client.ready()
  client.close()
})

test('who asks for encryption again and again is refused', async () => {
  await counted('protocol_violation', async () => {
    const client = new WireClient(port)
    const request = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])
    client.send(Buffer.concat([request, request, request, request]))
    await until('the connection is closed', () => client.closed)
  })
})

test('a newer minor version and unknown protocol options are negotiated down', async () => {
  const client = new WireClient(port)
  client.expectMessages()
  const packet = writeStartup(
    new Map([
      ['user', 'postgres'],
      ['_pq_.wish', 'on'],
    ]),
  )
  packet.writeUInt32BE(196611, 4)
  client.send(packet)
  await client.ready()
  assert.equal(client.received[0]?.code, 'v')
  assert.equal(client.received[0]?.body.readUInt32BE(0), 196610)
  assert.equal(client.received[0]?.body.toString('utf8', 8), '_pq_.wish\0')
  client.close()
})

test('the login works byte by byte', async () => {
  const client = new WireClient(port)
  client.expectMessages()
  client.socket.setNoDelay(true)
  for (const byte of writeStartup(new Map([['user', 'postgres']]))) client.send(Buffer.from([byte]))
  await client.ready()
  client.close()
})

test('one client too many is told so', async () => {
  const clients: WireClient[] = []
  try {
    await counted('too_many_clients', async () => {
      const refused = await until('somebody is refused', async () => {
        const client = new WireClient(port)
        client.startup({ user: 'postgres' })
        clients.push(client)
        await until('an answer', () => client.closed || client.received.some(({ code }) => code === 'Z'))
        return client.error
      })
      assert.equal(refused.get('C'), '53300')
      assert.match(refused.get('M') ?? '', /max_client_conn/)
    })
  } finally {
    for (const client of clients) client.close()
  }
})
