import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parse } from 'yaml'
import { loadConfig } from '../config/load.ts'
import { readPgBouncerIni } from './pgbouncer-ini.ts'
import type { Outcome } from './pgbouncer-ini-draft.ts'
import { pgbouncerSettings } from './pgbouncer-ini-settings.ts'
import { type Imported, translatePgBouncer } from './pgbouncer-ini-translate.ts'
import { importedYaml } from './pgbouncer-ini-yaml.ts'

function translate(text: string): Imported {
  return translatePgBouncer(readPgBouncerIni('/etc/b.ini', () => ({ text, mode: 0o600 })))
}

/** The outcome as pgherd loads it. */
function loaded(text: string) {
  const readFile = () => ({ text: '', mode: 0o600 })
  const yaml = importedYaml(translate(text), '/etc/b.ini')
  const result = loadConfig({ text: yaml, file: '/p.yaml', env: {}, hostName: 'box', readFile })
  assert.ok(result.ok, JSON.stringify(result))
  return result.config
}

const proxyOf = (...lines: string[]) => loaded(`[pgbouncer]\n${lines.join('\n')}\n`).proxy

function notes(text: string): Record<string, [Outcome, string]> {
  return Object.fromEntries(translate(text).notes.map(({ name, outcome, why }) => [name, [outcome, why]]))
}

const outcomes = (text: string) =>
  Object.fromEntries(Object.entries(notes(text)).map(([name, [outcome]]) => [name, outcome]))

describe('settings', () => {
  test('what pgherd needs besides is told', () => {
    const needed = (text: string) =>
      translate(text)
        .notes.filter(({ outcome }) => outcome === 'needed')
        .map(({ name }) => name)
    assert.deepEqual(needed('[databases]\na = host=h\n'), ['probe.user'])
    assert.deepEqual(needed('[pgbouncer]\nlisten_addr = *\n'), ['probe.user', 'nodes'])
  })

  test('what PgBouncer has by default counts, not what pgherd has', () => {
    const { pool_mode, default_pool_size, max_client_conn, read_port } = proxyOf('listen_addr = 10.0.0.1')
    assert.deepEqual([pool_mode, default_pool_size, max_client_conn, read_port], ['session', 20, 100, 0])
  })

  test('names and values are carried over, seconds as durations', () => {
    const proxy = proxyOf(
      'listen_addr = 10.0.0.1',
      'listen_port = 7000',
      'pool_mode = transaction',
      'max_client_conn = 500',
      'max_client_conn = 600',
      'default_pool_size = 30',
      'min_pool_size = 3',
      'reserve_pool_size = 4',
      'reserve_pool_timeout = 2.5',
      'max_db_connections = 50',
      'max_user_connections = 0',
      'max_prepared_statements = 77',
      'query_timeout = 90',
      'query_wait_timeout = 30',
      'server_idle_timeout = 60',
      'server_lifetime = 7200',
      'admin_users = a, b',
      'stats_users = c',
    )
    assert.equal(proxy.listen, '10.0.0.1')
    assert.equal(proxy.port, 7000)
    assert.equal(proxy.pool_mode, 'transaction')
    assert.equal(proxy.max_client_conn, 600)
    assert.equal(proxy.default_pool_size, 30)
    assert.equal(proxy.min_pool_size, 3)
    assert.equal(proxy.reserve_pool_size, 4)
    assert.equal(proxy.reserve_pool_timeout, 2500)
    assert.equal(proxy.max_db_connections, 50)
    assert.equal(proxy.max_prepared_statements, 77)
    assert.equal(proxy.query_timeout, 90_000)
    assert.equal(proxy.query_wait_timeout, 30_000)
    assert.equal(proxy.server_idle_timeout, 60_000)
    assert.equal(proxy.server_lifetime, 7_200_000)
    assert.deepEqual(proxy.console, { database: 'pgherd', admin_users: ['a', 'b'], stats_users: ['c'] })
  })

  test('what pgherd does not allow becomes the nearest that it does, and is told', () => {
    const text = `[pgbouncer]
listen_addr = 10.0.0.1, 10.0.0.2
default_pool_size = 0
query_wait_timeout = 0
server_lifetime = 0
client_login_timeout = 99999
max_client_conn = many
pool_mode = magic
`
    const { proxy } = loaded(text)
    assert.equal(proxy.listen, '10.0.0.1')
    assert.equal(proxy.default_pool_size, 100_000)
    assert.equal(proxy.query_wait_timeout, 24 * 86_400_000)
    assert.equal(proxy.server_lifetime, 1000)
    assert.equal(proxy.client_login_timeout, 3_600_000)
    assert.equal(proxy.max_client_conn, 100)
    assert.equal(proxy.pool_mode, 'session')
    const told = notes(text)
    assert.match(told['client_login_timeout']![1], /^It is 1h now/)
    assert.deepEqual(outcomes(text), {
      'probe.user': 'needed',
      nodes: 'needed',
      listen_addr: 'changed',
      default_pool_size: 'changed',
      query_wait_timeout: 'changed',
      server_lifetime: 'changed',
      client_login_timeout: 'changed',
      max_client_conn: 'dropped',
      pool_mode: 'dropped',
    })
  })

  test('a wildcard is every address, and no address is told', () => {
    assert.equal(proxyOf('listen_addr = *').listen, '::')
    assert.equal(outcomes('[pgbouncer]\nverbose = 0\n')['listen_addr'], 'changed')
    assert.equal(outcomes('[pgbouncer]\nlisten_addr = *\n')['listen_addr'], undefined)
  })

  test('every other setting is told by its name, the unknown as unknown', () => {
    const groups = /^(auth_|(client|server)_tls_(sslmode|key|cert|ca|protocols))/
    for (const key of pgbouncerSettings.keys()) {
      if (groups.test(key) || key === 'listen_addr') continue
      const { config, notes, carried } = translate(`[pgbouncer]\nlisten_addr = 1.2.3.4\n${key} = 7\n`)
      const base = translate('[pgbouncer]\nlisten_addr = 1.2.3.4\n')
      const isTold = notes.some(({ name, outcome }) => name === key && outcome !== 'unknown')
      const isCarried = carried > base.carried && JSON.stringify(config) !== JSON.stringify(base.config)
      assert.ok(isTold || isCarried, key)
    }
    assert.equal(outcomes('[pgbouncer]\nlisten_adr = *\n')['listen_adr'], 'unknown')
  })

  test('a value that makes no difference is no news', () => {
    const same = [
      'listen_addr = 127.0.0.1',
      'server_reset_query = DISCARD ALL',
      'server_round_robin = 0',
      'tcp_keepalive = 1',
      'so_reuseport = 0',
      'ignore_startup_parameters =',
      'disable_pqexec = 0',
      'client_tls_ciphers = fast',
      'server_tls_protocols = secure',
    ]
    assert.deepEqual(outcomes(`[pgbouncer]\n${same.join('\n')}\n`), {
      'probe.user': 'needed',
      nodes: 'needed',
    })
  })
})

describe('databases', () => {
  test('their hosts become nodes, each once', () => {
    const { nodes, proxy } = loaded(`[databases]
a = host=10.0.0.1 port=5433
b = host=10.0.0.1,10.0.0.2
c = host=10.0.0.1
d = host=::1
`)
    assert.deepEqual(
      nodes.map(({ host, port }) => `${host} ${port}`),
      ['10.0.0.1 5433', '10.0.0.1 5432', '10.0.0.2 5432', '::1 5432'],
    )
    assert.equal(proxy.read_port, 6433)
  })

  test('a Unix socket becomes this machine, and is told', () => {
    for (const place of ['', 'host=/var/run/postgresql', 'host=@abstract']) {
      const text = `[databases]\na = ${place} port=5433\n`
      assert.deepEqual(
        loaded(text).nodes.map(({ host, port }) => [host, port]),
        [['127.0.0.1', 5433]],
      )
      assert.equal(outcomes(text)['[databases] a: host'], 'changed')
    }
  })

  test('their own names and limits are carried over', () => {
    const { databases } = loaded(`[databases]
app = host=a dbname=app_v2 pool_size=30 min_pool_size=2 reserve_pool=3 pool_mode=statement
same = host=a dbname=same max_db_connections=9 max_db_client_connections=90
plain = host=a
unset = host=a pool_size=-1
`).proxy
    assert.deepEqual(databases, {
      app: {
        dbname: 'app_v2',
        pool_size: 30,
        min_pool_size: 2,
        reserve_pool_size: 3,
        pool_mode: 'statement',
      },
      same: { max_db_connections: 9, max_db_client_connections: 90 },
    })
  })

  test('what the fallback says is the default, and the listed ones keep what they had', () => {
    const { proxy } = loaded(`[pgbouncer]
default_pool_size = 25
pool_mode = transaction
[databases]
* = host=a pool_size=5 pool_mode=session max_db_connections=8
app = host=a
big = host=a pool_size=50 pool_mode=statement max_db_connections=0
`)
    assert.deepEqual([proxy.default_pool_size, proxy.pool_mode, proxy.max_db_connections], [5, 'session', 8])
    assert.deepEqual(proxy.databases, {
      app: { pool_size: 25, pool_mode: 'transaction', max_db_connections: 0 },
      big: { pool_size: 50, pool_mode: 'statement', max_db_connections: 0 },
    })
  })

  test('what pgherd has nothing for is told, and no password is shown', () => {
    const text = `[databases]
a = host=h user=svc password=hunter2 timezone=UTC connect_query='set x = 1' auth_user=b odd=1 query_wait_timeout=5
b = host=h hunter2
* = host=h dbname=one
`
    assert.deepEqual(outcomes(text), {
      'probe.user': 'needed',
      '[databases] a: user': 'dropped',
      '[databases] a: password': 'dropped',
      '[databases] a: timezone': 'dropped',
      '[databases] a: connect_query': 'dropped',
      '[databases] a: auth_user': 'dropped',
      '[databases] a: query_wait_timeout': 'dropped',
      '[databases] a: odd': 'unknown',
      '[databases] b': 'dropped',
      '[databases] *: dbname': 'dropped',
    })
    const imported = translate(text)
    assert.doesNotMatch(JSON.stringify(imported) + importedYaml(imported, 'b.ini'), /hunter2/)
  })

  test('clients are kept out of databases that are not listed, or that is told', () => {
    const databasesOf = (text: string) => {
      const told = translate(text).notes.filter(({ name }) => name === '[databases]')
      return [loaded(text).proxy.auth.rules[0]?.database, ...told.map(({ value }) => value)]
    }
    const listed = '[databases]\na = host=h\n"all" = host=h\n"b c" = host=h\n'
    assert.deepEqual(databasesOf(listed), [['a', '"all"', '"b c"', 'pgherd', 'pgbouncer']])
    assert.deepEqual(databasesOf(`${listed}* = host=h\n`), ['all'])
    assert.deepEqual(databasesOf(`${listed}"/x" = host=h\n`), ['all', 'a, all, b c, /x'])
    assert.deepEqual(databasesOf(`${listed}[pgbouncer]\nauth_type = pam\n`), [undefined, 'a, all, b c'])
  })

  test('databases on servers of their own are told', () => {
    const told = notes('[databases]\na = host=h1\nb = host=h2\nc = host=h1\n* = host=h1\n')
    assert.match(told['[databases]']![1], /servers of its own/)
    const { notes: all } = translate('[databases]\na = host=h1\nb = host=h2\nc = host=h1\n')
    assert.equal(all.find(({ name }) => name === '[databases]')?.value, 'a on h1:5432, b on h2:5432')
  })

  test('names may be anything', () => {
    const { databases, users } = loaded(`[databases]
"constructor" = host=h pool_size=3
"my db: #1" = host=h pool_size=4
[users]
toString = pool_size=5
`).proxy
    assert.deepEqual(Object.entries(databases), [
      ['constructor', { pool_size: 3 }],
      ['my db: #1', { pool_size: 4 }],
    ])
    assert.deepEqual(Object.entries(users), [['toString', { pool_size: 5 }]])
  })
})

test('users have their own limits; a time of 0 says nothing there', () => {
  const { users } = loaded(`[users]
batch = pool_mode=session pool_size=2 query_timeout=90 client_idle_timeout=0 max_user_connections=0
web = max_user_client_connections=9 reserve_pool_size=1 idle_transaction_timeout=5 transaction_timeout=6
`).proxy
  assert.deepEqual(users, {
    batch: { pool_mode: 'session', pool_size: 2, query_timeout: 90_000, max_user_connections: 0 },
    web: {
      max_user_client_connections: 9,
      reserve_pool_size: 1,
      idle_transaction_timeout: 5000,
      transaction_timeout: 6000,
    },
  })
  assert.equal(
    outcomes('[users]\na = query_wait_timeout=5 x=1\n')['[users] a: query_wait_timeout'],
    'dropped',
  )
  assert.equal(outcomes('[users]\na = query_wait_timeout=5 x=1\n')['[users] a: x'], 'unknown')
})

describe('logins', () => {
  const method = (...lines: string[]) => {
    const { auth } = proxyOf(...lines)
    return [auth.method, ...auth.rules.map(rule => `${rule.type} ${rule.method}`)]
  }

  test('each way becomes a rule for everybody', () => {
    assert.deepEqual(method('listen_port = 1'), ['proxy', 'host md5'])
    for (const [type, rule] of [
      ['md5', 'host md5'],
      ['scram-sha-256', 'host scram-sha-256'],
      ['plain', 'host password'],
      ['trust', 'host trust'],
      ['any', 'host trust'],
      ['cert', 'hostssl cert'],
    ]) {
      assert.deepEqual(method(`auth_type = ${type}`), ['proxy', rule], type)
    }
    assert.equal(outcomes('[pgbouncer]\nauth_type = trust\n')['auth_type'], 'changed')
  })

  test('what pgherd cannot check is left to the servers', () => {
    assert.deepEqual(method('auth_type = pam', 'auth_file = /u'), ['passthrough'])
    const text = '[pgbouncer]\nauth_type = ldap\nauth_file = /u\nauth_ldap_options = ldapbindpasswd=hunter2\n'
    assert.equal(outcomes(text)['auth_type'], 'dropped')
    assert.equal(outcomes(text)['auth_file'], 'dropped')
    assert.doesNotMatch(JSON.stringify(translate(text)), /hunter2/)
  })

  test('files and the query are carried over', () => {
    const { auth } = loaded(`[databases]
logins = host=h dbname=logins_v2
[pgbouncer]
auth_type = hba
auth_hba_file = /etc/hba.conf
auth_file = users.txt
auth_user = asker
auth_query = SELECT * FROM look_up($1) -- it's "quoted": yes
auth_dbname = logins
`).proxy
    assert.equal(auth.hba_file, '/etc/hba.conf')
    assert.equal(auth.users_file, '/etc/users.txt')
    assert.equal(auth.query_user, 'asker')
    assert.equal(auth.query, `SELECT * FROM look_up($1) -- it's "quoted": yes`)
    assert.equal(auth.query_database, 'logins_v2')
    assert.equal(outcomes('[pgbouncer]\nauth_file = users.txt\n')['auth_file'], 'changed')
  })
})

describe('TLS', () => {
  const files = ['client_tls_cert_file = /c', 'client_tls_key_file = /k', 'client_tls_ca_file = /ca']

  test('of the clients', () => {
    const tls = (mode: string) => {
      const { mode: made, cert_file, client_ca_file } = proxyOf(`client_tls_sslmode = ${mode}`, ...files).tls
      return [made, cert_file, client_ca_file]
    }
    assert.deepEqual(tls('disable'), ['disable', undefined, undefined])
    assert.deepEqual(tls('allow'), ['allow', '/c', undefined])
    assert.deepEqual(tls('prefer'), ['allow', '/c', undefined])
    assert.deepEqual(tls('require'), ['require', '/c', undefined])
    assert.deepEqual(tls('verify-full'), ['require', '/c', '/ca'])
    const text = `[pgbouncer]\nclient_tls_sslmode = verify-ca\n${files.join('\n')}\n`
    assert.match(notes(text)['client_tls_sslmode']![1], /demands it where a rule says/)
  })

  test('to the servers', () => {
    const tls = (mode: string) => {
      const made = proxyOf(`server_tls_sslmode = ${mode}`, 'server_tls_ca_file = /ca').server_tls
      return [made.mode, made.ca_file]
    }
    assert.deepEqual(tls('disable'), ['disable', undefined])
    assert.deepEqual(tls('allow'), ['prefer', undefined])
    assert.deepEqual(tls('require'), ['require', undefined])
    assert.deepEqual(tls('verify-ca'), ['verify-ca', '/ca'])
    assert.deepEqual(tls('verify-full'), ['verify-full', '/ca'])
    assert.equal(outcomes('[pgbouncer]\nserver_tls_sslmode = yes\n')['server_tls_sslmode'], 'dropped')
  })

  test('versions', () => {
    const version = (value: string) => proxyOf(`server_tls_protocols = ${value}`).server_tls.min_version
    assert.equal(version('tlsv1.3'), 'TLSv1.3')
    assert.equal(version('tlsv1.2,tlsv1.3'), 'TLSv1.2')
    assert.equal(version('all'), 'TLSv1.2')
    assert.equal(outcomes('[pgbouncer]\nserver_tls_protocols = all\n')['server_tls_protocols'], 'changed')
  })
})

test('other sections are told', () => {
  assert.deepEqual(outcomes('[peers]\n1 = host=a\n[odd]\nx = 1\n'), {
    'probe.user': 'needed',
    nodes: 'needed',
    '[peers] 1': 'dropped',
    '[odd] x': 'unknown',
  })
})

test('the file names what was not carried over in comments that nothing can end', () => {
  const imported = translate("[databases]\na = host=h timezone='x\u2028y: z'\n")
  const yaml = importedYaml(imported, '/etc/b.ini')
  assert.deepEqual(parse(yaml), imported.config)
  assert.match(
    yaml,
    /^# Not carried over:\n#\n# {3}\[databases\] a: timezone = x y: z\n# {5}pgherd sets nothing/m,
  )
})
