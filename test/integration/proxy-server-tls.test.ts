import assert from 'node:assert/strict'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { giveTo, serverAccount } from '../../src/demo/account.ts'
import { Authority, type Certificate } from '../support/certificates.ts'
import { startTestHost, testConfig } from '../support/host.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { askForPasswords, psql } from '../support/server-auth.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** TLS between the proxy and the servers. */
let cluster: TestCluster
let authority: Authority
let strangers: Authority
let server: Certificate
let ada: Certificate
let dir: string

const password = 'ada-Geheim-1'

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgherd-server-tls-'))
  authority = await Authority.make('pgherd test')
  strangers = await Authority.make('somebody else')
  // For a name, not for the address that the proxy connects to.
  server = await authority.issue('db.example', 'DNS:db.example,DNS:localhost')
  ada = await authority.issue('ada', 'DNS:ada')
  const files = {
    certFile: join(dir, 'server.crt'),
    keyFile: join(dir, 'server.key'),
    caFile: join(dir, 'ca.crt'),
  }
  for (const name of ['certFile', 'keyFile', 'caFile'] as const) await copyFile(server[name], files[name])
  await giveTo(await serverAccount(), dir)
  const settings = {
    ssl: 'on',
    ssl_cert_file: files.certFile,
    ssl_key_file: files.keyFile,
    ssl_ca_file: files.caFile,
  }
  cluster = await startTestCluster({ settings })
  await cluster.primary.query(`create role ada login password '${password}'`)
  await askForPasswords(cluster.primary, [
    'hostssl certified all all cert map=certified',
    'hostssl all ada all scram-sha-256',
    'hostssl replication postgres all trust',
  ])
})

after(async () => {
  await cluster?.stop()
  await authority?.remove()
  await strangers?.remove()
  await rm(dir, { recursive: true, force: true })
})

/** Runs with a proxy whose `server_tls` is the given one. */
async function through(
  tls: Record<string, string>,
  use: (port: number, host: Host) => Promise<void>,
  more: Record<string, unknown> = {},
  isUsable = true,
): Promise<void> {
  const named = Object.entries(tls).map(([key, value]) => [`proxy.server_tls.${key}`, value])
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.workers': 1,
    'proxy.failover_wait': '300ms',
    ...Object.fromEntries(named),
    ...more,
  })
  const host = await startTestHost(config)
  try {
    const isKnown = () => host.watcher.current().nodes.some(node => node.writable) && host.proxy!.isCurrent
    if (isUsable) await until('the server is known', isKnown)
    await use(config.proxy.port, host)
  } finally {
    await host.stop()
  }
}

const encryption = 'select ssl, version, client_dn from pg_stat_ssl where pid = pg_backend_pid()'

async function encryptedBy(tls: Record<string, string>): Promise<unknown> {
  let rows: unknown[] = []
  await through(tls, async port => {
    rows = await query(port, encryption)
  })
  return rows[0]
}

/** Neither the proxy's own questions nor a client comes through. */
async function isRefused(tls: Record<string, string>): Promise<void> {
  const use = (port: number) => assert.rejects(query(port, encryption), /there is no primary/)
  await through(tls, use, {}, false)
}

const yes = { ssl: true, version: 'TLSv1.3', client_dn: null }

test('the modes encrypt, and trust whom libpq trusts', async () => {
  assert.deepEqual(await encryptedBy({ mode: 'disable' }), { ssl: false, version: null, client_dn: null })
  assert.deepEqual(await encryptedBy({ mode: 'prefer' }), yes)
  assert.deepEqual(await encryptedBy({ mode: 'require' }), yes)
  // The certificate is not for the address of the node, which verify-ca does not look at.
  assert.deepEqual(await encryptedBy({ mode: 'verify-ca', ca_file: authority.caFile }), yes)
  await isRefused({ mode: 'verify-ca', ca_file: strangers.caFile })
  await isRefused({ mode: 'verify-full', ca_file: authority.caFile })
})

test('verify-full takes a certificate that is for the host of the node', async () => {
  const nodes = [{ name: 'a', host: 'localhost', port: cluster.primary.port }]
  await through(
    { mode: 'verify-full', ca_file: authority.caFile },
    async port => assert.deepEqual(await query(port, encryption), [yes]),
    { nodes },
  )
})

test('the servers are shown a certificate where one is set', async () => {
  const files = { cert_file: ada.certFile, key_file: ada.keyFile }
  assert.deepEqual(await encryptedBy({ mode: 'require', ...files }), { ...yes, client_dn: '/CN=ada' })
})

test('without TLS at the server require is refused and prefer goes on', async () => {
  await cluster.primary.query('alter system set ssl = off')
  await cluster.primary.query('select pg_reload_conf()')
  try {
    assert.deepEqual(await encryptedBy({ mode: 'prefer' }), { ssl: false, version: null, client_dn: null })
    await isRefused({ mode: 'require' })
  } finally {
    await cluster.primary.query('alter system reset ssl')
    await cluster.primary.query('select pg_reload_conf()')
  }
})

test('the client’s own login passes through, a cancel request is encrypted too, and much data passes', async () => {
  await through({ mode: 'require' }, async port => {
    const client = await connect(port, { user: 'ada', password })
    const { rows } = await client.query<{ data: string }>(`select repeat('0123456789', 3000000) as data`)
    assert.equal(rows[0]?.data.length, 30_000_000)
    const back = await client.query<{ bytes: number }>('select length($1) as bytes', [rows[0]?.data])
    assert.equal(back.rows[0]?.bytes, 30_000_000)
    await client.end()

    const cancelled = psql(`host=127.0.0.1 port=${port} user=ada dbname=postgres`, `select pg_sleep(20)`, {
      PGPASSWORD: password,
      PGOPTIONS: '-c statement_timeout=0',
    })
    const raw = await WireClient.open(port, { user: 'postgres' })
    const sleeping = raw.query('select pg_sleep(20)')
    await until('both run', async () => {
      const rows = await cluster.primary.query(
        `select 1 from pg_stat_activity where query = 'select pg_sleep(20)' and state = 'active'`,
      )
      return rows.length === 2
    })
    const cancel = new WireClient(port)
    const packet = Buffer.alloc(16)
    packet.writeInt32BE(16, 0)
    packet.writeInt32BE(80877102, 4)
    packet.writeInt32BE(raw.processId, 8)
    packet.set(raw.secret, 12)
    cancel.send(packet)
    await assert.rejects(sleeping, /canceling statement due to user request/)
    await cluster.primary.query(
      `select pg_cancel_backend(pid) from pg_stat_activity where query = 'select pg_sleep(20)' and usename = 'ada'`,
    )
    assert.match((await cancelled).err, /canceling statement/)
    raw.close()
  })
})

test('the proxy binds its own login to the channel', async () => {
  const rules = [{ type: 'host', database: 'all', user: 'all', address: 'all', method: 'scram-sha-256' }]
  const auth = {
    'proxy.auth.method': 'proxy',
    'proxy.auth.rules': rules,
    'proxy.auth.query_user': 'postgres',
  }
  await through(
    { mode: 'require' },
    async port => {
      const rows = await query(port, encryption, { user: 'ada', password })
      assert.deepEqual(rows, [yes])
    },
    auth,
  )
})

test('servers that take nobody without TLS are asked about themselves with it', async () => {
  const hba = join(cluster.primary.folder, 'pg_hba.conf')
  const before = await readFile(hba, 'utf8')
  await writeFile(hba, 'local all all trust\nhostssl all postgres all trust\n')
  await cluster.primary.query('select pg_reload_conf()')
  try {
    assert.deepEqual(await encryptedBy({ mode: 'require' }), yes)
  } finally {
    await writeFile(hba, before)
    await through({ mode: 'require' }, async port => void (await query(port, 'select pg_reload_conf()')))
  }
})

test('replication passes through', async () => {
  await through({ mode: 'require' }, async port => {
    const client = new WireClient(port)
    client.startup({ user: 'postgres', replication: 'true' })
    await client.ready()
    const answers = await client.query('IDENTIFY_SYSTEM')
    assert.ok(answers.some(({ code }) => code === 'D'))
    client.close()
  })
})

test('with TLS on both sides a login that binds the channel is told why it cannot be passed on', async () => {
  const front = await authority.issue('front', 'DNS:localhost,IP:127.0.0.1')
  const tls = { 'proxy.tls.cert_file': front.certFile, 'proxy.tls.key_file': front.keyFile }
  await through(
    { mode: 'require' },
    async port => {
      const login = (more: string) =>
        psql(`host=127.0.0.1 port=${port} user=ada dbname=postgres sslmode=require ${more}`, 'select 1', {
          PGPASSWORD: password,
        })
      const { err } = await login('')
      assert.match(
        err,
        /cannot be passed on with SCRAM and channel binding\nHINT: .*proxy\.auth\.method: proxy/,
      )
      assert.equal((await login('channel_binding=disable')).out, '1')
    },
    tls,
  )
})
