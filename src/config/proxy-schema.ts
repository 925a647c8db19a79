import * as field from './fields.ts'
import { authRule, clientTlsRule, proxyRule, serverTlsRule } from './rules.ts'

/** The section `proxy`, a part of the configuration that `schema.ts` puts together. */

export const poolModes = ['auto', 'session', 'transaction', 'statement'] as const
const onOff = ['on', 'off'] as const

const elementsMax = 10_000

const databaseElement = field.element('What differs for one database.', {
  dbname: field.optionalText({
    description: 'Its name on the servers, where that is another.',
    reload: 'live',
  }),
  pool_mode: field.optionalChoice(poolModes, {
    description: 'In place of `proxy.pool_mode`.',
    reload: 'live',
  }),
  pool_size: field.optionalInteger(1, 100_000, {
    description: 'In place of `proxy.default_pool_size`.',
    reload: 'live',
  }),
  min_pool_size: field.optionalInteger(0, 100_000, {
    description: 'In place of `proxy.min_pool_size`.',
    reload: 'live',
  }),
  reserve_pool_size: field.optionalInteger(0, 100_000, {
    description: 'In place of `proxy.reserve_pool_size`.',
    reload: 'live',
  }),
  max_db_connections: field.optionalInteger(0, 1_000_000, {
    description: 'In place of `proxy.max_db_connections`.',
    reload: 'live',
  }),
  max_db_client_connections: field.optionalInteger(0, 1_000_000, {
    description: 'In place of `proxy.max_db_client_connections`.',
    reload: 'live',
  }),
  lanes: field.optionalChoice(onOff, {
    description: 'In place of `proxy.lanes`.',
    reload: 'live',
  }),
  hedge_percent: field.optionalInteger(0, 100, {
    description: 'In place of `proxy.hedge_percent`.',
    reload: 'live',
  }),
  prepare_unnamed: field.optionalChoice(onOff, {
    description: 'In place of `proxy.prepare_unnamed`.',
    reload: 'live',
  }),
  defer_begin: field.optionalChoice(onOff, {
    description: 'In place of `proxy.defer_begin`.',
    reload: 'live',
  }),
  read_write_split: field.optionalChoice(onOff, {
    description: 'In place of `proxy.read_write_split`.',
    reload: 'live',
  }),
  consistency: field.optionalConsistency({
    description: 'In place of `proxy.consistency`.',
    reload: 'live',
  }),
})

const userElement = field.element('What differs for one user.', {
  pool_mode: field.optionalChoice(poolModes, {
    description: 'In place of `proxy.pool_mode`.',
    reload: 'live',
  }),
  pool_size: field.optionalInteger(1, 100_000, {
    description: 'In place of `proxy.default_pool_size`.',
    reload: 'live',
  }),
  reserve_pool_size: field.optionalInteger(0, 100_000, {
    description: 'In place of `proxy.reserve_pool_size`.',
    reload: 'live',
  }),
  max_user_connections: field.optionalInteger(0, 1_000_000, {
    description: 'In place of `proxy.max_user_connections`.',
    reload: 'live',
  }),
  max_user_client_connections: field.optionalInteger(0, 1_000_000, {
    description: 'In place of `proxy.max_user_client_connections`.',
    reload: 'live',
  }),
  query_timeout: field.optionalDuration({
    description: 'In place of `proxy.query_timeout`.',
    reload: 'live',
  }),
  transaction_timeout: field.optionalDuration({
    description: 'In place of `proxy.transaction_timeout`.',
    reload: 'live',
  }),
  idle_transaction_timeout: field.optionalDuration({
    description: 'In place of `proxy.idle_transaction_timeout`.',
    reload: 'live',
  }),
  client_idle_timeout: field.optionalDuration({
    description: 'In place of `proxy.client_idle_timeout`.',
    reload: 'live',
  }),
  lanes: field.optionalChoice(onOff, {
    description: 'In place of `proxy.lanes`.',
    reload: 'live',
  }),
  hedge_percent: field.optionalInteger(0, 100, {
    description: 'In place of `proxy.hedge_percent`.',
    reload: 'live',
  }),
  prepare_unnamed: field.optionalChoice(onOff, {
    description: 'In place of `proxy.prepare_unnamed`.',
    reload: 'live',
  }),
  defer_begin: field.optionalChoice(onOff, {
    description: 'In place of `proxy.defer_begin`.',
    reload: 'live',
  }),
  read_write_split: field.optionalChoice(onOff, {
    description: 'In place of `proxy.read_write_split`.',
    reload: 'live',
  }),
  consistency: field.optionalConsistency({
    description: 'In place of `proxy.consistency`.',
    reload: 'live',
  }),
})

const tlsVersions = ['TLSv1.2', 'TLSv1.3'] as const

const certificateElement = field.element('A certificate for clients that ask for a name (SNI).', {
  server_name: field.requiredHost({ description: 'The name that the client asks for.', reload: 'live' }),
  cert_file: field.requiredFile('public', {
    description: 'Its certificate (PEM), with those between it and its authority.',
    reload: 'live',
  }),
  key_file: field.requiredFile('private', { description: 'Private key (PEM) of it.', reload: 'live' }),
})

const clientTlsSection = field.section(
  'TLS of the clients. On SIGHUP the files are read again, also when their names are the same.',
  {
    mode: field.optionalChoice(['disable', 'allow', 'require'], {
      description:
        '`allow`: a client may use TLS; `require`: one that does not is refused; `disable`: none can.',
      reload: 'live',
      env: 'PGHERD_PROXY_TLS_MODE',
      defaultText: '`allow` with `cert_file`, else `disable`',
    }),
    cert_file: field.file('public', {
      description: 'Certificate (PEM) of this proxy, with those between it and its authority.',
      reload: 'live',
      env: 'PGHERD_PROXY_TLS_CERT_FILE',
    }),
    key_file: field.file('private', {
      description: 'Private key (PEM) of the certificate.',
      reload: 'live',
      env: 'PGHERD_PROXY_TLS_KEY_FILE',
    }),
    client_ca_file: field.file('public', {
      description:
        'Certificates (PEM) of the authorities of clients’ certificates. With it clients are asked for one; ' +
        'those that show one of another authority are refused. The method `cert` of a rule demands one.',
      reload: 'live',
      env: 'PGHERD_PROXY_TLS_CLIENT_CA_FILE',
    }),
    min_version: field.choice(tlsVersions, 'TLSv1.2', {
      description: 'Oldest version of TLS.',
      reload: 'live',
    }),
    certificates: field.sectionList(certificateElement, 'certificates', 1000, {
      description: 'More certificates, chosen by the name that the client asks for (SNI).',
      reload: 'live',
    }),
  },
  clientTlsRule,
)

const serverTlsSection = field.section(
  'TLS to the servers. On SIGHUP the files are read again; connections that are open stay as they are.',
  {
    mode: field.choice(['disable', 'prefer', 'require', 'verify-ca', 'verify-full'], 'prefer', {
      description:
        'As `sslmode` of libpq: `prefer` uses TLS where the server can, and trusts any certificate.',
      reload: 'live',
      env: 'PGHERD_PROXY_SERVER_TLS_MODE',
    }),
    ca_file: field.file('public', {
      description: 'Certificates (PEM) of the authorities to trust; those that Node.js brings when not set.',
      reload: 'live',
      env: 'PGHERD_PROXY_SERVER_TLS_CA_FILE',
    }),
    cert_file: field.file('public', {
      description: 'Client certificate (PEM) to show to the servers.',
      reload: 'live',
      env: 'PGHERD_PROXY_SERVER_TLS_CERT_FILE',
    }),
    key_file: field.file('private', {
      description: 'Private key (PEM) of the client certificate.',
      reload: 'live',
      env: 'PGHERD_PROXY_SERVER_TLS_KEY_FILE',
    }),
    min_version: field.choice(tlsVersions, 'TLSv1.2', {
      description: 'Oldest version of TLS.',
      reload: 'live',
    }),
  },
  serverTlsRule,
)

const ruleElement = field.element('One rule: the parts of a line of pg_hba.conf.', {
  type: field.requiredText({
    description: '`host`, `hostssl` (only with TLS), `hostnossl` (only without) or `local`.',
    reload: 'live',
  }),
  database: field.textOrTexts({ description: 'Databases, or `all`, `sameuser`.', reload: 'live' }),
  user: field.textOrTexts({ description: 'Users, or `all`.', reload: 'live' }),
  address: field.optionalText({
    description: 'Range of the clients’ addresses, such as `10.0.0.0/8`, or `all`. Not for `local`.',
    reload: 'live',
  }),
  method: field.requiredText({
    description: '`trust`, `reject`, `scram-sha-256`, `md5`, `password` or `cert`.',
    reload: 'live',
  }),
  map: field.optionalText({
    description: 'For `cert`: the map, of `proxy.auth.maps`, that says which users a certificate may be.',
    reload: 'live',
  }),
})

const mapElement = field.element('One line of a map: the parts of a line of pg_ident.conf.', {
  map: field.requiredText({ description: 'Name of the map that it belongs to.', reload: 'live' }),
  certificate: field.requiredText({
    description: 'Common name of the certificate; behind a slash a regular expression.',
    reload: 'live',
  }),
  user: field.requiredText({
    description: 'The user that it may be: a name, `\\1` for what the first group matched, or `all`.',
    reload: 'live',
  }),
})

const defaultQuery =
  'SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END ' +
  'FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin'

const authSection = field.section(
  'Who may log in, and who checks it.',
  {
    method: field.choice(['passthrough', 'proxy'], 'passthrough', {
      description:
        '`passthrough`: the servers ask for the password, and a server connection stays with the client that ' +
        'logged in on it. `proxy`: pgherd checks it by the rules, and clients share server connections.',
      reload: 'live',
      env: 'PGHERD_PROXY_AUTH_METHOD',
    }),
    hba_file: field.file('public', {
      description: 'File of rules in the form of pg_hba.conf; the first that fits counts.',
      reload: 'live',
      env: 'PGHERD_PROXY_AUTH_HBA_FILE',
    }),
    rules: field.sectionList(ruleElement, 'rules', elementsMax, {
      description: 'The rules themselves, in place of a file; the first that fits counts.',
      reload: 'live',
    }),
    maps: field.sectionList(mapElement, 'maps', elementsMax, {
      description: 'Maps from certificates to users, for rules with the method `cert` and a `map`.',
      reload: 'live',
    }),
    users_file: field.file('private', {
      description: 'Users and their secrets, in the form of PgBouncer’s `userlist.txt`.',
      reload: 'live',
      env: 'PGHERD_PROXY_AUTH_USERS_FILE',
    }),
    query: field.text(defaultQuery, {
      description:
        'Asks a server for a user who is not in the file: `$1` is the name, and the answer is one row with ' +
        'the name and the secret, which is NULL for a user who may not log in now. Used with `query_user`.',
      reload: 'live',
    }),
    query_user: field.optionalText({
      description: 'User who asks. Who may not read `pg_authid` needs a function in `query` that may.',
      reload: 'live',
      env: 'PGHERD_PROXY_AUTH_QUERY_USER',
    }),
    query_password: field.secret({
      description: 'Its password; else what the users file says.',
      reload: 'live',
      env: 'PGHERD_PROXY_AUTH_QUERY_PASSWORD',
    }),
    query_password_file: field.file('secret', {
      description: 'File that holds its password.',
      reload: 'live',
      env: 'PGHERD_PROXY_AUTH_QUERY_PASSWORD_FILE',
    }),
    query_database: field.optionalText({
      description: 'Database to ask in; that of the client when not set.',
      reload: 'live',
      env: 'PGHERD_PROXY_AUTH_QUERY_DATABASE',
    }),
  },
  authRule,
)

const consoleSection = field.section(
  'The console: a database that is not one, for PgBouncer’s `SHOW` commands and their like.',
  {
    database: field.text('pgherd', {
      description: 'Name of the database that leads to it. `pgbouncer` does so as well.',
      reload: 'live',
    }),
    admin_users: field.users({
      description:
        'Users who may use every command. With `proxy.auth.method: passthrough` nobody can be checked, so ' +
        'that the console then takes connections of this machine only (127.0.0.1, ::1), whoever it is.',
      reload: 'live',
    }),
    stats_users: field.users({
      description:
        'Users who may use `SHOW` only. When both lists are empty, all who log in from this machine may do all.',
      reload: 'live',
    }),
  },
)

export const proxySection = field.section(
  'The proxy that clients connect to.',
  {
    id: field.optionalName({
      description: 'Name of this proxy in the store, in logs and in metrics. Unique in its cluster.',
      reload: 'restart',
      env: 'PGHERD_PROXY_ID',
      defaultText: 'the host name and `proxy.port`',
    }),
    listen: field.host('127.0.0.1', {
      description:
        'Address to listen on; `0.0.0.0` for every IPv4 and `::` for every address of the machine.',
      reload: 'restart',
      env: 'PGHERD_PROXY_LISTEN',
    }),
    port: field.port(6432, {
      description: 'Port for reads and writes.',
      reload: 'restart',
      env: 'PGHERD_PROXY_PORT',
    }),
    read_port: field.optionalPort(6433, {
      description: 'Port for sessions that only read, balanced over the replicas; 0 for none.',
      reload: 'restart',
      env: 'PGHERD_PROXY_READ_PORT',
    }),
    workers: field.autoOrInteger(1, 64, {
      description:
        'Worker processes that carry the traffic. `auto`: one fewer than the machine has processors, 1 to 8.',
      reload: 'restart',
      env: 'PGHERD_PROXY_WORKERS',
    }),
    zone: field.label({
      description: 'Where this proxy stands; nodes of the same zone are preferred.',
      reload: 'restart',
      env: 'PGHERD_PROXY_ZONE',
    }),
    slow_start: field.duration('10s', {
      description:
        'How long a replica that comes back takes to get its whole share of the reads; 0: at once.',
      reload: 'live',
    }),
    ejection_max_percent: field.integer(50, 0, 100, {
      description:
        'Most replicas, of those that could serve, that get no reads for a while because they are much slower than ' +
        'the others or fail. One always stays; 0: all do.',
      reload: 'live',
    }),
    pool_mode: field.choice(poolModes, 'auto', {
      description:
        'When a server connection goes back to its pool. `session`: when the client disconnects; `transaction`: ' +
        'after each transaction; `statement`: after each statement, and a transaction of several is refused; ' +
        '`auto`: after each transaction unless the client holds what only this connection has, such as a ' +
        'temporary table. Counts for clients that log in from then on.',
      reload: 'live',
      env: 'PGHERD_PROXY_POOL_MODE',
    }),
    lanes: field.choice(onOff, 'on', {
      description:
        'Whether quick reads of several clients share server connections: statements that read, call nothing ' +
        'volatile and leave nothing behind, outside of transactions. Not in pool mode `session`.',
      reload: 'live',
      env: 'PGHERD_PROXY_LANES',
    }),
    hedge_percent: field.integer(2, 0, 100, {
      description:
        'How many reads, of 100 that share server connections to replicas, may be sent to a second replica as well when ' +
        'the first takes unusually long for their kind; the quicker answer counts: [asking twice](balancing.md#asking-twice). ' +
        '0: none.',
      reload: 'live',
    }),
    prepare_unnamed: field.choice(onOff, 'on', {
      description:
        'Whether statements that come again and again without being prepared, as extended messages or as simple ' +
        'queries with other constants, are prepared on the server. ' +
        'PostgreSQL then plans them as `plan_cache_mode` says.',
      reload: 'live',
    }),
    defer_begin: field.choice(onOff, 'on', {
      description:
        'Whether a BEGIN is answered at once and goes to a server together with the first statement of its ' +
        'transaction. Not in the pool modes `session` and `statement`.',
      reload: 'live',
    }),
    read_write_split: field.choice(onOff, 'on', {
      description:
        'Whether statements that only read go to replicas on the port for everything. What they see is as recent as ' +
        '`consistency` says. Not in pool mode `session`.',
      reload: 'live',
      env: 'PGHERD_PROXY_READ_WRITE_SPLIT',
    }),
    consistency: field.consistency('causal', {
      description:
        'How old what a replica shows may be. `causal`: everything that this proxy has acknowledged before the ' +
        'statement came is there; `bounded:500`: what the primary had 500 ms ago is there; `eventual`: whatever the ' +
        'replica has; `strong`: the primary alone is read.',
      reload: 'live',
      env: 'PGHERD_PROXY_CONSISTENCY',
    }),
    default_pool_size: field.integer(100, 1, 100_000, {
      description: 'Most server connections for each node, database and user.',
      reload: 'live',
    }),
    min_pool_size: field.integer(0, 0, 100_000, {
      description: 'Server connections that a pool in use keeps open for each node, database and user.',
      reload: 'live',
    }),
    reserve_pool_size: field.integer(0, 0, 100_000, {
      description: 'Server connections that a pool may open beyond its size for clients that wait too long.',
      reload: 'live',
    }),
    reserve_pool_timeout: field.duration('5s', {
      description: 'How long a client waits before the reserve is used; 0 never uses it.',
      reload: 'live',
    }),
    max_db_connections: field.integer(0, 0, 1_000_000, {
      description:
        'Most server connections of one database, all its users together, for each node; 0 for no limit.',
      reload: 'live',
    }),
    max_user_connections: field.integer(0, 0, 1_000_000, {
      description:
        'Most server connections of one user, in all databases together, for each node; 0 for no limit.',
      reload: 'live',
    }),
    max_client_conn: field.integer(10_000, 1, 1_000_000, {
      description: 'Most client connections of the whole proxy. One more is refused with SQLSTATE 53300.',
      reload: 'live',
    }),
    max_db_client_connections: field.integer(0, 0, 1_000_000, {
      description: 'Most client connections of one database; 0 for no limit.',
      reload: 'live',
    }),
    max_user_client_connections: field.integer(0, 0, 1_000_000, {
      description: 'Most client connections of one user; 0 for no limit.',
      reload: 'live',
    }),
    query_wait_queue_max: field.integer(10_000, 1, 1_000_000, {
      description: 'Most clients that wait for one pool at once. One more is refused with SQLSTATE 53300.',
      reload: 'live',
    }),
    max_prepared_statements: field.integer(200, 1, 100_000, {
      description:
        'Named prepared statements that are kept on one server connection. One that gives way to another is ' +
        'prepared again when it is wanted.',
      reload: 'live',
    }),
    client_login_timeout: field.duration(
      '1m',
      { description: 'How long a client may take to log in.', reload: 'live' },
      { min: 100, max: 3_600_000 },
    ),
    query_wait_timeout: field.duration(
      '2m',
      {
        description: 'How long a client waits for a free server connection before it is refused.',
        reload: 'live',
      },
      { min: 100 },
    ),
    query_timeout: field.duration('0', {
      description:
        'A statement that runs for longer is cancelled and its client disconnected; 0 for no limit.',
      reload: 'live',
    }),
    transaction_timeout: field.duration('0', {
      description: 'A client whose transaction lasts longer is disconnected; 0 for no limit.',
      reload: 'live',
    }),
    idle_transaction_timeout: field.duration('0', {
      description: 'A client that is silent within a transaction for longer is disconnected; 0 for no limit.',
      reload: 'live',
    }),
    client_idle_timeout: field.duration('0', {
      description:
        'A client that is silent outside a transaction for longer is disconnected; 0 for no limit.',
      reload: 'live',
    }),
    server_connect_timeout: field.duration(
      '15s',
      { description: 'How long connecting and logging in to a server may take.', reload: 'live' },
      { min: 100, max: 3_600_000 },
    ),
    server_idle_timeout: field.duration(
      '10m',
      { description: 'A server connection that was idle for this long is closed.', reload: 'live' },
      { min: 1000 },
    ),
    server_lifetime: field.duration(
      '1h',
      { description: 'A server connection older than this is closed when it comes free.', reload: 'live' },
      { min: 1000 },
    ),
    failover_wait: field.duration('30s', {
      description: 'How long new work waits for a primary when there is none; 0 refuses it at once.',
      reload: 'live',
    }),
    shutdown_timeout: field.duration('30s', {
      description: 'How long running sessions may go on when the proxy is told to stop; 0 ends them at once.',
      reload: 'live',
    }),
    proxy_protocol_from: field.addressRanges({
      description:
        'Addresses of load balancers in front of pgherd. Connections from them, and from nowhere else, must ' +
        'begin with a PROXY protocol header (version 1 or 2), whose addresses count as the client’s.',
      reload: 'live',
      env: 'PGHERD_PROXY_PROTOCOL_FROM',
    }),
    databases: field.sectionsByName(databaseElement, 'databases', elementsMax, {
      description:
        'What differs for single databases, by the name that clients ask for. Others need not be listed.',
      reload: 'live',
    }),
    users: field.sectionsByName(userElement, 'users', elementsMax, {
      description:
        'What differs for single users. It goes before what a database says, and that before the keys above.',
      reload: 'live',
    }),
    tls: clientTlsSection,
    server_tls: serverTlsSection,
    auth: authSection,
    console: consoleSection,
  },
  proxyRule,
)
