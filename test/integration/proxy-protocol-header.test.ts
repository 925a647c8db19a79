import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { after, before, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { Host } from '../../src/cli/host.ts'
import { createLogger } from '../../src/runtime/log.ts'
import { writeStartup } from '../../src/wire/startup.ts'
import { Authority } from '../support/certificates.ts'
import { startHaproxy } from '../support/haproxy.ts'
import { testConfig, untilRolesAreKnown } from '../support/host.ts'
import { need, programPath } from '../support/need.ts'
import { freePorts } from '../support/ports.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** The PROXY header: who may send one, and that what it says is believed. */
let cluster: TestCluster
let logged = ''

before(async () => {
  cluster = await startTestCluster()
})

after(() => cluster?.stop())

/** Runs with a proxy that takes headers from the given ranges, and lets only 192.0.2.0/24 and 127.0.0.2 in. */
async function through(
  ranges: string[],
  use: (port: number) => Promise<void>,
  more: Record<string, unknown> = {},
): Promise<void> {
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'log.level': 'info',
    'proxy.workers': 1,
    'proxy.proxy_protocol_from': ranges,
    'proxy.auth.method': 'proxy',
    'proxy.auth.rules': [
      { type: 'host', database: 'all', user: 'all', address: '192.0.2.0/24', method: 'trust' },
      { type: 'host', database: 'all', user: 'all', address: '127.0.0.2/32', method: 'trust' },
    ],
    ...more,
  })
  const write = (line: string): void => {
    logged += line
  }
  const log = createLogger({ level: 'info', format: 'text', write })
  const parts = { agent: false, proxy: true, admin: true }
  const host = await Host.start({
    config,
    origins: new Map(),
    parts,
    log,
    writeLog: write,
    logFormat: 'text',
  })
  try {
    await untilRolesAreKnown(host)
    await use(config.proxy.port)
  } finally {
    await host.stop()
  }
}

const startup = writeStartup(new Map(Object.entries({ user: 'postgres', database: 'postgres' })))
const line = (address: string): Buffer => Buffer.from(`PROXY TCP4 ${address} 192.0.2.1 4711 6432\r\n`)
const version2 = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const binary = Buffer.concat([version2, Buffer.from('2111000cc0000207c0000201126b1920', 'hex')])
const local = Buffer.concat([version2, Buffer.from('20000000', 'hex')])

function send(port: number, ...bytes: Buffer[]): WireClient {
  const client = new WireClient(port)
  client.expectMessages()
  client.send(Buffer.concat(bytes))
  return client
}

test('the address of the header counts for the access rules and in the log', async () => {
  await through(['127.0.0.0/8'], async port => {
    for (const header of [line('192.0.2.7'), binary]) {
      const client = send(port, header, startup)
      await client.ready()
      client.close()
    }
    const client = send(port, line('198.51.100.9'), startup)
    assert.match((await client.refused()).get('M') ?? '', /host "198.51.100.9"/)
    await until('the address is logged', () => logged.includes('198.51.100.9:4711'))
  })
})

test('a header may come byte by byte', async () => {
  await through(['127.0.0.0/8'], async port => {
    const client = new WireClient(port)
    client.expectMessages()
    client.socket.setNoDelay(true)
    for (const byte of Buffer.concat([binary, startup])) client.send(Buffer.from([byte]))
    await client.ready()
    client.close()
  })
})

test('a check of the balancer itself counts as its own address', async () => {
  await through(['127.0.0.0/8'], async port => {
    const client = send(port, local, startup)
    assert.match((await client.refused()).get('M') ?? '', /host "127.0.0.1"/)
  })
})

test('from a balancer, what has no header is closed without a word', async () => {
  await through(['127.0.0.0/8'], async port => {
    for (const bytes of [startup, line('192.0.2.777'), Buffer.from('PROXY TCP9 a b c d\r\n')]) {
      const client = send(port, bytes)
      await until('it is closed', () => client.closed)
      assert.equal(client.received.length, 0)
    }
    assert.match(logged, /a connection is closed: no PROXY header came/)
  })
})

test('from anywhere else a header is refused', async () => {
  await through(['10.0.0.0/8'], async port => {
    for (const header of [line('192.0.2.7'), binary]) {
      const client = send(port, header, startup)
      assert.match((await client.refused()).get('M') ?? '', /not listed in proxy.proxy_protocol_from/)
    }
    const client = send(port, startup)
    assert.match((await client.refused()).get('M') ?? '', /host "127.0.0.1"/)
  })
})

test('TLS follows the header, also when it begins in the same packet', async () => {
  const authority = await Authority.make('pgherd test')
  const { certFile, keyFile } = await authority.issue('proxy', 'DNS:localhost')
  const files = { 'proxy.tls.cert_file': certFile, 'proxy.tls.key_file': keyFile }
  try {
    await through(
      ['127.0.0.0/8'],
      async port => {
        const plain = connectTcp({ port, host: '127.0.0.1' })
        await once(plain, 'connect')
        // Held back, so that the header and the handshake go as one.
        plain.cork()
        plain.write(binary)
        const ca = await readFile(authority.caFile)
        const tls = connectTls({ socket: plain, ca, servername: 'localhost', ALPNProtocols: ['postgresql'] })
        plain.uncork()
        await once(tls, 'secureConnect')
        const client = new WireClient(port, tls)
        client.expectMessages()
        client.send(startup)
        await client.ready()
        client.close()
      },
      files,
    )
  } finally {
    await authority.remove()
  }
})

test('HAProxy in front tells where its clients come from', need('haproxy'), async t => {
  const health = createServer((_, response) => void response.end()).listen(0, '127.0.0.1')
  t.after(() => health.close())
  await once(health, 'listening')
  const checkPort = (health.address() as AddressInfo).port
  await through(['127.0.0.1/32'], async port => {
    for (const option of ['send-proxy', 'send-proxy-v2']) {
      const [front] = await freePorts(1)
      const haproxy = await startHaproxy(programPath('haproxy')!, [
        {
          name: 'pgherd',
          port: front!,
          path: '/',
          servers: [{ name: 'a', port, checkPort }],
          serverOptions: option,
        },
      ])
      try {
        for (const [localAddress, isKnown] of [
          ['127.0.0.2', true],
          ['127.0.0.3', false],
        ] as const) {
          const socket = connectTcp({ port: front!, host: '127.0.0.1', localAddress })
          const client = new WireClient(front!, socket)
          client.expectMessages()
          client.send(startup)
          if (isKnown) await client.ready()
          else assert.match((await client.refused()).get('M') ?? '', /host "127.0.0.3"/)
          client.close()
        }
      } finally {
        await haproxy.stop()
      }
    }
  })
})
