import assert from 'node:assert/strict'
import { once } from 'node:events'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import { Host } from '../../src/cli/host.ts'
import type { Config } from '../../src/config/schema.ts'
import { createLogger } from '../../src/runtime/log.ts'
import { terminate, writeQuery } from '../../src/wire/messages.ts'
import { writeCancelRequest, writeSslRequest } from '../../src/wire/startup.ts'
import { Authority, type Certificate, renew } from '../support/certificates.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { askForPasswords, psql } from '../support/server-auth.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** TLS between clients and the proxy. */
let cluster: TestCluster
let host: Host
let config: Config
let port: number
let dir: string
let authority: Authority
let strangers: Authority
let installed: Certificate
let other: Certificate
let ada: Certificate
let stranger: Certificate
let logged = ''

const password = 'ada-Geheim-1'

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgherd-tls-'))
  authority = await Authority.make('pgherd test')
  strangers = await Authority.make('somebody else')
  const names = 'DNS:localhost,IP:127.0.0.1'
  const first = await authority.issue('first', names)
  installed = { ...first, certFile: join(dir, 'proxy.crt'), keyFile: join(dir, 'proxy.key') }
  await renew(installed, first)
  other = await authority.issue('reads.example', 'DNS:reads.example')
  ada = await authority.issue('ada', 'DNS:ada')
  stranger = await strangers.issue('ada', 'DNS:ada')
  cluster = await startTestCluster()
  await cluster.primary.query(`create role ada login password '${password}'`)
  await cluster.primary.query(`create role mia login password '${password}'`)
  await cluster.primary.query(`create role guest login`)
  await cluster.primary.query(`create role asker login superuser`)
  await askForPasswords(cluster.primary, [
    'host all asker all trust',
    'host all mia,guest all trust',
    'host all all all scram-sha-256',
  ])
  config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.client_login_timeout': '3s',
    'proxy.tls.mode': 'require',
    'proxy.tls.cert_file': installed.certFile,
    'proxy.tls.key_file': installed.keyFile,
    'proxy.tls.client_ca_file': authority.caFile,
    'proxy.tls.certificates': [
      { server_name: 'reads.example', cert_file: other.certFile, key_file: other.keyFile },
    ],
    'proxy.auth.method': 'proxy',
    'proxy.auth.query_user': 'asker',
    'proxy.auth.maps': [{ map: 'visitors', certificate: '/^visitor-\\d+$', user: 'guest' }],
    'proxy.auth.rules': [
      { type: 'hostssl', database: 'all', user: 'mia', address: 'all', method: 'cert' },
      { type: 'hostssl', database: 'all', user: 'guest', address: 'all', method: 'cert', map: 'visitors' },
      { type: 'hostssl', database: 'all', user: 'postgres', address: 'all', method: 'trust' },
      { type: 'hostssl', database: 'all', user: 'all', address: 'all', method: 'scram-sha-256' },
    ],
  })
  const write = (line: string): void => {
    logged += line
  }
  const log = createLogger({ level: 'info', format: 'text', write })
  const parts = { agent: false, proxy: true, admin: true }
  host = await Host.start({
    config: { ...config, log: { ...config.log, level: 'info' } },
    origins: new Map(),
    parts,
    log,
    writeLog: write,
    logFormat: 'text',
  })
  port = config.proxy.port
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
  await authority?.remove()
  await strangers?.remove()
  await rm(dir, { recursive: true, force: true })
})

const connection = (more: string): string => `host=localhost port=${port} user=ada dbname=postgres ${more}`

/** TLS as a client begins it, after the server has said yes or at once. */
async function encrypted(options: ConnectionOptions = {}, direct = false): Promise<TLSSocket> {
  const socket = connectTcp({ port, host: '127.0.0.1', allowHalfOpen: true })
  if (!direct) {
    socket.write(writeSslRequest())
    const [answer] = (await once(socket, 'data')) as [Buffer]
    assert.equal(answer.toString(), 'S')
  }
  const tls = connectTls({
    socket,
    ca: await readFile(authority.caFile),
    servername: 'localhost',
    ...options,
  })
  await once(tls, 'secureConnect')
  return tls
}

async function session(user: string, options?: ConnectionOptions, direct?: boolean): Promise<WireClient> {
  const client = new WireClient(port, await encrypted(options, direct))
  client.startup({ user, database: 'postgres' })
  await client.ready()
  return client
}

const direct: ConnectionOptions = { ALPNProtocols: ['postgresql'] }

test('psql verifies the proxy in full, and binds its login to the channel', async () => {
  const verified = `sslmode=verify-full sslrootcert=${authority.caFile} channel_binding=require`
  const result = await psql(connection(verified), 'select current_user', { PGPASSWORD: password })
  assert.deepEqual(result, { code: 0, out: 'ada', err: '' })
})

test('what is not encrypted is refused, and told how to come in', async () => {
  const { code, err } = await psql(connection('sslmode=disable'), 'select 1', { PGPASSWORD: password })
  assert.equal(code, 2)
  assert.match(err, /this proxy takes encrypted connections only\nHINT: {2}Connect with TLS/)
})

test('a cancel request needs no encryption, as with PostgreSQL', async () => {
  const client = await session('postgres')
  const answered = client.query('select pg_sleep(20)')
  await until('the query runs', async () => {
    const rows = await cluster.primary.query(
      `select 1 from pg_stat_activity where query = 'select pg_sleep(20)' and state = 'active'`,
    )
    return rows.length === 1
  })
  const cancel = connectTcp({ port, host: '127.0.0.1' })
  cancel.end(writeCancelRequest(client.processId, client.secret))
  await assert.rejects(answered, /canceling statement due to user request/)
  client.close()
})

test('TLS without a request for it has to name the protocol', async () => {
  const client = await session('postgres', direct, true)
  await client.query('select 1')
  client.close()
  const silent = await encrypted({}, true).catch((error: Error) => error)
  if (!(silent instanceof Error)) await once(silent.resume(), 'end')
  await assert.rejects(
    encrypted({ ALPNProtocols: ['http/1.1'] }, true),
    /no application protocol|ECONNRESET/i,
  )
})

test('what came unencrypted behind the request for TLS is refused', async () => {
  const client = new WireClient(port)
  const startup = Buffer.concat([writeSslRequest(), Buffer.from([0, 0, 0, 8, 0, 3, 0, 0])])
  client.expectMessages()
  client.send(startup)
  assert.match((await client.refused()).get('M') ?? '', /unencrypted data came behind the request for TLS/)
})

test('what is no TLS after all costs only its sender', async () => {
  const client = new WireClient(port)
  client.send(writeSslRequest())
  await until('the answer', () => client.raw.toString() === 'S')
  client.send(Buffer.from('GET / HTTP/1.1\r\n\r\n'))
  await until('it is closed', () => client.closed)
  const next = await session('postgres')
  next.close()
})

test('a client that goes in the middle of a handshake leaves nothing behind', async () => {
  const clients = async (): Promise<number> => (await proxyCounters(config.admin.port)).clients
  await until('nobody is connected', async () => (await clients()) === 0)
  for (const begun of [Buffer.alloc(0), Buffer.from([0x16, 3, 1, 0, 200])]) {
    const client = new WireClient(port)
    client.send(writeSslRequest())
    await until('the answer', () => client.raw.toString() === 'S')
    client.socket.end(begun)
    await until('it is closed', () => client.closed, 2000)
  }
  const hasty = connectTls({
    port,
    host: '127.0.0.1',
    ca: await readFile(authority.caFile),
    servername: 'localhost',
    ...direct,
  })
  await once(hasty, 'secureConnect')
  hasty.destroy()
  await until('nobody is left', async () => (await clients()) === 0, 2000)
})

test('a handshake that does not go on ends with the time for the login', async () => {
  const client = new WireClient(port)
  client.send(writeSslRequest())
  await until('the answer', () => client.raw.toString() === 'S')
  client.send(Buffer.from([0x16, 3, 1, 0, 200]))
  await until('it is closed', () => client.closed)
  assert.equal(client.raw.length, 1)
})

test('the certificate follows the name that is asked for', async () => {
  const named = async (servername: string): Promise<string> => {
    const socket = await encrypted({ servername })
    const { subject } = socket.getPeerCertificate()
    socket.destroy()
    return String(subject.CN)
  }
  assert.equal(await named('reads.example'), 'reads.example')
  assert.equal(await named('localhost'), 'first')
})

test('a client’s certificate says who it is, when its authority is trusted', async () => {
  const mia = await authority.issue('mia', 'DNS:mia')
  const attempt =
    (certificate: Certificate, user = 'mia') =>
    async (): Promise<string> => {
      const files = `sslcert=${certificate.certFile} sslkey=${certificate.keyFile}`
      const target = `host=localhost port=${port} user=${user} dbname=postgres sslmode=require ${files}`
      const { err, out } = await psql(target, 'select current_user')
      return out || err
    }
  assert.equal(await attempt(mia)(), 'mia')
  assert.match(
    await attempt(ada)(),
    /certificate authentication failed for user "mia": the certificate is of "ada"/,
  )
  assert.match(await attempt(stranger)(), /the client certificate is not valid/)
  const without = `host=localhost port=${port} user=mia dbname=postgres sslmode=require`
  assert.match((await psql(without, 'select 1')).err, /no valid certificate was shown/)
})

test('much data passes both ways, and a slow reader is waited for', async () => {
  const client = await connect(port, {
    ssl: { ca: await readFile(authority.caFile, 'utf8') },
    host: 'localhost',
  } as never)
  const { rows } = await client.query<{ data: string }>(`select repeat('0123456789', 3000000) as data`)
  assert.equal(rows[0]?.data.length, 30_000_000)
  const back = await client.query<{ bytes: number }>('select length($1) as bytes', [rows[0]?.data])
  assert.equal(back.rows[0]?.bytes, 30_000_000)
  await client.end()

  const slow = await session('postgres')
  slow.socket.pause()
  slow.send(writeQuery(`select repeat('x', 1000000) from generate_series(1, 60)`))
  await until('the server waits for the reader', async () => {
    const rows = await cluster.primary.query(
      `select 1 from pg_stat_activity where wait_event = 'ClientWrite'`,
    )
    return rows.length === 1
  })
  slow.socket.resume()
  const from = slow.received.length
  await slow.ready(from)
  assert.equal(slow.received.filter(({ code }) => code === 'D').length, 60)
  slow.close()
})

test('a client that has said its last word still gets the answer', async () => {
  const client = await session('postgres')
  const from = client.received.length
  client.send(writeQuery('select pg_sleep(0.2)'))
  client.socket.end()
  await client.ready(from)
  await until('it is closed', () => client.closed)
})

test('a goodbye closes the connection in good order', async () => {
  const client = await session('postgres')
  // An end that TLS does not announce would be an error here.
  const ended = once(client.socket, 'end')
  client.send(terminate)
  await ended
  client.close()
})

test('a new certificate is used from the next handshake on, and a broken one never', async () => {
  const shown = async (): Promise<string> => {
    const socket = await encrypted()
    const { subject } = socket.getPeerCertificate()
    socket.destroy()
    return String(subject.CN)
  }
  const running = await session('postgres')
  await renew(installed, await authority.issue('second', 'DNS:localhost,IP:127.0.0.1'))
  await host.reload(host.config, new Map())
  await until('the new one is shown', async () => (await shown()) === 'second')
  const keep = join(dir, 'kept.key')
  await copyFile(installed.keyFile, keep)
  await writeFile(installed.keyFile, '-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n')
  await host.reload(host.config, new Map())
  await until('it is told', () => logged.includes('TLS of the clients stay as they were'))
  assert.equal(await shown(), 'second')
  await copyFile(keep, installed.keyFile)
  await running.query('select 1')
  running.close()
})

test('with a certificate that is none a proxy does not start, and says why', async () => {
  const broken = join(dir, 'broken.crt')
  await writeFile(broken, 'no certificate')
  const overrides = { 'proxy.tls.cert_file': broken, 'proxy.tls.key_file': installed.keyFile }
  const failing = await testConfig([{ name: 'a', port: cluster.primary.port }], overrides)
  await assert.rejects(startTestHost(failing), { name: 'TlsError', code: 'unusable', message: /broken\.crt/ })
})
