import { isHost } from '../config/names.ts'
import { durationMsMax } from '../config/units.ts'
import type { Bounds, Draft, Outcome, Reason, Source, Zero } from './pgbouncer-ini-draft.ts'

/** What becomes of one setting of the section `[pgbouncer]`. */
type Carry = (source: Source, draft: Draft) => void

const seconds =
  (key: string, bounds: Bounds = {}): Carry =>
  (source, draft) =>
    draft.carrySeconds(['proxy', key], source, bounds)

const count =
  (key: string, bounds: Bounds = {}): Carry =>
  (source, draft) =>
    draft.carryCount(['proxy', key], source, bounds)

/** Told unless the value is one of `same`, which are what pgherd does. */
const told =
  (outcome: Outcome, why: string, todo = '', same: readonly string[] = ['']): Carry =>
  (source, draft) => {
    if (same.includes(source.value)) draft.carried++
    else draft.note(outcome, source, { why, todo })
  }
const dropped = (why: string, todo?: string, same?: readonly string[]) => told('dropped', why, todo, same)
const unneeded = (why: string, todo?: string, same?: readonly string[]) => told('unneeded', why, todo, same)

/** These are looked at as a group: see `pgbouncer-ini-auth.ts`. */
const inGroup: Carry = () => undefined

/** Pool sizes that PgBouncer takes for no limit. */
export const noPoolLimit: Bounds = {
  min: 1,
  max: 100_000,
  zero: { value: 100_000, why: 'PgBouncer takes 0 for no limit; a pool of pgherd always has one.' },
}

const poolModes: readonly string[] = ['session', 'transaction', 'statement']

/** `pool_mode`, of everything, of a database or of a user. */
export function carryPoolMode(path: readonly string[], source: Source, draft: Draft): void {
  if (poolModes.includes(source.value)) draft.carry(path, source.value)
  else draft.note('dropped', source, { why: `The value is none of ${poolModes.join(', ')}.` })
}

const logs: Reason = {
  why: 'pgherd logs to standard error.',
  todo: 'Let systemd or the container keep it; `log.level` and `log.format` say how much and in which form.',
}
const sockets: Reason = { why: 'pgherd listens on TCP only.', todo: 'Let clients connect to `proxy.listen`.' }
const resolver: Reason = { why: 'pgherd resolves names by the system for every new connection.' }
const keepalive: Reason = {
  why: 'pgherd sets TCP by itself.',
  todo: 'Change the defaults of the system (`net.ipv4.tcp_*`) where others are needed.',
}
const buffers: Reason = { why: 'pgherd chooses the sizes of its buffers by itself.' }
const ciphers: Reason = {
  why: 'The ciphers are those of the TLS library, chosen by the version of TLS.',
  todo: 'Set `min_version: TLSv1.3` for the strictest.',
}
const peers: Reason = {
  why: 'pgherd’s proxies know each other by the store that they share.',
  todo: 'Set `store.kind: etcd` with the same endpoints for all of them.',
}

const noteOf = (outcome: Outcome, { why, todo }: Reason, same?: readonly string[]): Carry =>
  told(outcome, why, todo, same)

const listenAddress: Carry = (source, draft) => {
  const addresses = source.value.split(',').map(address => address.trim())
  const all = addresses.includes('*')
  const first = all ? '::' : addresses.find(isHost)
  if (source.value === '') {
    return draft.note('changed', source, {
      why: 'PgBouncer then listens on a Unix socket only; pgherd listens on 127.0.0.1.',
    })
  }
  if (first === undefined) return draft.note('dropped', source, { why: 'The value is no address.' })
  if (addresses.length === 1 || all) return draft.carry(['proxy', 'listen'], first)
  draft.set(['proxy', 'listen'], first)
  draft.note('changed', source, {
    why: `pgherd listens on one address, now ${first}.`,
    todo: 'Set `proxy.listen` to `0.0.0.0` or `::` for all addresses of the machine.',
  })
}

const names =
  (...path: string[]): Carry =>
  (source, draft) => {
    const users = source.value.split(/[\s,]+/).filter(name => name !== '')
    draft.carry(path, users)
  }

const verbose: Carry = (source, draft) => {
  draft.set(['log', 'level'], source.value === '0' ? 'info' : 'debug')
  if (source.value === '0') draft.carried++
  else draft.note('changed', source, { why: 'It is `log.level: debug` now.' })
}

const startupParameters = told(
  'changed',
  'pgherd ignores no startup parameter: it sets each on the server connections, `options` too.',
  'See that what clients ask for is what they should get.',
)

const resetQuery: Carry = (source, draft) => {
  if (/^discard\s+all\s*;?$/i.test(source.value)) draft.carried++
  else {
    const why = 'pgherd resets a server connection with DISCARD ALL when a client leaves unknown state on it.'
    draft.note('dropped', source, { why })
  }
}

const preparedStatements: Carry = (source, draft) =>
  draft.carryCount(['proxy', 'max_prepared_statements'], source, {
    max: 100_000,
    zero: {
      value: 1,
      why: 'With 0 PgBouncer lets named statements fail in transaction mode; with pgherd they work in every mode.',
    },
  })

const serverLifetimeZero: Zero = {
  value: 1000,
  why: 'With 0 PgBouncer uses a server connection once; with pgherd it lives for at least a second.',
}

/** Where 0 means for ever, and pgherd has a longest time. */
const endless = (value: number): Zero => ({
  value,
  why: 'PgBouncer takes 0 for no limit; it is the longest that pgherd allows now.',
})

/** Every setting that PgBouncer 1.25 knows, and those of the versions before it. */
export const pgbouncerSettings: ReadonlyMap<string, Carry> = new Map<string, Carry>([
  // Where it listens, and how it runs
  ['listen_addr', listenAddress],
  ['listen_port', count('port', { min: 1, max: 65_535 })],
  ['listen_backlog', unneeded('pgherd takes connections as fast as it can; the system’s limit counts.')],
  ['unix_socket_dir', noteOf('dropped', sockets)],
  ['unix_socket_mode', noteOf('dropped', sockets)],
  ['unix_socket_group', noteOf('dropped', sockets)],
  [
    'so_reuseport',
    unneeded('One pgherd uses several processors by its workers: `proxy.workers`.', '', ['0']),
  ],
  [
    'user',
    dropped('pgherd does not change its user.', 'Start it as that user, e.g. by `User=` in its unit.'),
  ],
  ['pidfile', dropped('pgherd stays in the foreground.', 'Let systemd or the container watch it.')],
  ['conffile', dropped('The file is named by `--config` or `PGHERD_CONFIG`.')],
  ['service_name', dropped('pgherd is no Windows service.')],
  ['job_name', dropped('pgherd is no Windows service.')],
  ['peer_id', noteOf('dropped', peers, ['0'])],

  // Pools and limits
  ['pool_mode', (source, draft) => carryPoolMode(['proxy', 'pool_mode'], source, draft)],
  ['max_client_conn', count('max_client_conn', { min: 1 })],
  ['default_pool_size', count('default_pool_size', noPoolLimit)],
  ['min_pool_size', count('min_pool_size', { max: 100_000 })],
  ['reserve_pool_size', count('reserve_pool_size', { max: 100_000 })],
  ['reserve_pool_timeout', seconds('reserve_pool_timeout')],
  ['max_db_connections', count('max_db_connections')],
  ['max_db_client_connections', count('max_db_client_connections')],
  ['max_user_connections', count('max_user_connections')],
  ['max_user_client_connections', count('max_user_client_connections')],
  ['max_prepared_statements', preparedStatements],
  ['server_round_robin', unneeded('pgherd spreads its work over the servers by their load.', '', ['0'])],
  ['server_reset_query', resetQuery],
  [
    'server_reset_query_always',
    unneeded('pgherd resets a server connection whenever a client has left something on it.', '', ['0']),
  ],
  [
    'server_fast_close',
    dropped(
      'Connections of a session are closed when it ends.',
      '`pgherd node drain` moves the sessions of a server away.',
      ['0'],
    ),
  ],
  ['server_check_query', unneeded('pgherd watches the servers all the time.', '', ['', '<empty>'])],
  ['server_check_delay', unneeded('pgherd watches the servers all the time.')],
  ['server_login_retry', unneeded('pgherd asks a server that failed again by itself: `probe.interval`.')],
  ['track_extra_parameters', unneeded('pgherd remembers every setting that a client makes.')],
  ['ignore_startup_parameters', startupParameters],
  [
    'disable_pqexec',
    dropped('pgherd serves the simple protocol too.', 'Forbid several statements at once in the client.', [
      '0',
    ]),
  ],
  [
    'application_name_add_host',
    dropped(
      'pgherd leaves `application_name` as it is.',
      '`SHOW CLIENTS` has the addresses of the clients.',
      ['0'],
    ),
  ],
  ['autodb_idle_timeout', unneeded('A pool that nobody uses is forgotten by itself.')],
  ['pool_idle_timeout', unneeded('A pool that nobody uses is forgotten by itself.', '', ['0'])],

  // Times
  ['query_timeout', seconds('query_timeout')],
  ['query_wait_timeout', seconds('query_wait_timeout', { min: 100, zero: endless(durationMsMax) })],
  ['transaction_timeout', seconds('transaction_timeout')],
  ['idle_transaction_timeout', seconds('idle_transaction_timeout')],
  ['client_idle_timeout', seconds('client_idle_timeout')],
  [
    'client_login_timeout',
    seconds('client_login_timeout', { min: 100, max: 3_600_000, zero: endless(3_600_000) }),
  ],
  [
    'server_connect_timeout',
    seconds('server_connect_timeout', { min: 100, max: 3_600_000, zero: endless(3_600_000) }),
  ],
  ['server_idle_timeout', seconds('server_idle_timeout', { min: 1000, zero: endless(durationMsMax) })],
  ['server_lifetime', seconds('server_lifetime', { min: 1000, zero: serverLifetimeZero })],
  ['query_wait_notify', dropped('Clients that wait are told nothing.', '`SHOW POOLS` counts them.', ['0'])],
  ['cancel_wait_timeout', dropped('A request to cancel does not wait for a pool.')],
  ['suspend_timeout', dropped('pgherd ends in good order within `proxy.shutdown_timeout`.')],
  ['login_notify_message', dropped('pgherd says nothing when a client logs in.')],

  // Logins
  ['auth_type', inGroup],
  ['auth_file', inGroup],
  ['auth_hba_file', inGroup],
  ['auth_ident_file', inGroup],
  ['auth_ldap_options', inGroup],
  ['auth_user', inGroup],
  ['auth_query', inGroup],
  ['auth_dbname', inGroup],
  ['scram_iterations', unneeded('The secret of the server or of the users file says how many.')],
  ['admin_users', names('proxy', 'console', 'admin_users')],
  ['stats_users', names('proxy', 'console', 'stats_users')],

  // TLS
  ['client_tls_sslmode', inGroup],
  ['client_tls_key_file', inGroup],
  ['client_tls_cert_file', inGroup],
  ['client_tls_ca_file', inGroup],
  ['client_tls_protocols', inGroup],
  ['client_tls_ciphers', noteOf('dropped', ciphers, ['', 'default', 'secure', 'fast', 'normal'])],
  ['client_tls13_ciphers', noteOf('dropped', ciphers)],
  ['client_tls_dheparams', noteOf('dropped', ciphers, ['', 'auto'])],
  ['client_tls_ecdhcurve', noteOf('dropped', ciphers, ['', 'auto'])],
  ['server_tls_sslmode', inGroup],
  ['server_tls_key_file', inGroup],
  ['server_tls_cert_file', inGroup],
  ['server_tls_ca_file', inGroup],
  ['server_tls_protocols', inGroup],
  ['server_tls_ciphers', noteOf('dropped', ciphers, ['', 'default', 'secure', 'fast', 'normal'])],
  ['server_tls13_ciphers', noteOf('dropped', ciphers)],

  // Log and statistics
  ['logfile', noteOf('dropped', logs)],
  ['syslog', noteOf('dropped', logs, ['0'])],
  ['syslog_facility', noteOf('dropped', logs)],
  ['syslog_ident', noteOf('dropped', logs)],
  ['log_connections', noteOf('dropped', logs)],
  ['log_disconnections', noteOf('dropped', logs)],
  ['log_pooler_errors', noteOf('dropped', logs)],
  ['log_stats', dropped('Figures do not go to the log.', 'Read them from `/metrics` or the console.', ['0'])],
  ['stats_period', dropped('Figures are counters; whoever reads them makes the averages.')],
  ['verbose', verbose],

  // Names and the network
  ['dns_max_ttl', noteOf('unneeded', resolver)],
  ['dns_nxdomain_ttl', noteOf('unneeded', resolver)],
  ['dns_zone_check_period', noteOf('unneeded', resolver, ['0'])],
  ['resolv_conf', noteOf('dropped', resolver)],
  ['pkt_buf', noteOf('unneeded', buffers)],
  ['sbuf_loopcnt', noteOf('unneeded', buffers)],
  ['tcp_socket_buffer', noteOf('unneeded', buffers, ['0'])],
  ['max_packet_size', dropped('Messages pass up to the 1 GB of PostgreSQL, in pieces.', '', ['2147483647'])],
  ['tcp_defer_accept', noteOf('unneeded', keepalive)],
  ['tcp_keepalive', noteOf('dropped', keepalive, ['1'])],
  ['tcp_keepcnt', noteOf('dropped', keepalive, ['0'])],
  ['tcp_keepidle', noteOf('dropped', keepalive, ['0'])],
  ['tcp_keepintvl', noteOf('dropped', keepalive, ['0'])],
  ['tcp_user_timeout', noteOf('dropped', keepalive, ['0'])],
])
