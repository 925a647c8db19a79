import { z } from 'zod'
import * as field from './fields.ts'
import { proxySection } from './proxy-schema.ts'
import { adminRule, agentRule, nodesRule, onePassword, storeRule } from './rules.ts'

/**
 * The configuration: one schema that gives the types, defaults, limits, documentation (`docs/configuration.md`)
 * and the JSON Schema. Keys carry the names they have in the file, PgBouncer's where the meaning is the same.
 * After loading, durations are milliseconds and sizes are bytes.
 */

const logSection = field.section('What the program says about its work, on standard error.', {
  level: field.choice(['debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info', {
    description: 'Least severe event that is logged.',
    reload: 'live',
    env: 'PGHERD_LOG_LEVEL',
  }),
  format: field.choice(['auto', 'json', 'text'], 'auto', {
    description: 'Form of a line. `auto` is `text` on a terminal and `json` elsewhere.',
    reload: 'restart',
    env: 'PGHERD_LOG_FORMAT',
  }),
})

const tlsSection = z
  .strictObject({
    ca_file: field.file('public', {
      description: 'Certificates (PEM) of the authorities to trust; the system’s own when not set.',
      reload: 'restart',
      env: 'PGHERD_STORE_CA_FILE',
    }),
    cert_file: field.file('public', {
      description: 'Client certificate (PEM).',
      reload: 'restart',
      env: 'PGHERD_STORE_CERT_FILE',
    }),
    key_file: field.file('private', {
      description: 'Private key (PEM) of the client certificate.',
      reload: 'restart',
      env: 'PGHERD_STORE_KEY_FILE',
    }),
    server_name: field.optionalHost({
      description: 'Name that the servers’ certificates must carry; that of the endpoint when not set.',
      reload: 'restart',
    }),
  })
  .optional()
  .register(field.sectionRegistry, {
    description: 'TLS to etcd. Present, even as `tls: {}`, it turns TLS on for every endpoint.',
  })

const storeSection = field.section(
  'Where the keys of the cluster live.',
  {
    kind: field.choice(['embedded', 'etcd'], 'embedded', {
      description:
        '`embedded` is a file that one process on one machine owns. `etcd` is shared by every agent and proxy.',
      reload: 'restart',
      env: 'PGHERD_STORE_KIND',
    }),
    path: field.path('./pgherd-store', {
      description: 'Folder of the embedded store; `:memory:` keeps nothing.',
      reload: 'restart',
      env: 'PGHERD_STORE_PATH',
    }),
    endpoints: field.endpoints({
      description: 'Members of the etcd cluster, each `host:port` or with `http://` or `https://` before it.',
      reload: 'restart',
      env: 'PGHERD_STORE_ENDPOINTS',
    }),
    user: field.optionalText({ description: 'etcd user.', reload: 'restart', env: 'PGHERD_STORE_USER' }),
    password: field.secret({
      description: 'Password of the etcd user.',
      reload: 'restart',
      env: 'PGHERD_STORE_PASSWORD',
    }),
    password_file: field.file('secret', {
      description: 'File that holds the password of the etcd user.',
      reload: 'restart',
      env: 'PGHERD_STORE_PASSWORD_FILE',
    }),
    tls: tlsSection,
    lease_ttl: field.duration(
      '10s',
      {
        description:
          'How long what an agent or a proxy reported outlives its silence. Whole seconds in etcd.',
        reload: 'restart',
      },
      { min: 2000, max: 600_000 },
    ),
    request_timeout: field.duration(
      '3s',
      { description: 'How long one request to the store may take.', reload: 'restart' },
      { min: 100, max: 60_000 },
    ),
  },
  storeRule,
)

const nodeSchema = z.strictObject({
  name: field.optionalName({
    description: 'Name of the node in commands, logs and metrics.',
    reload: 'live',
    defaultText: 'the host, with `-port` when that is not 5432',
  }),
  host: field.requiredHost({ description: 'Where its PostgreSQL listens.', reload: 'live' }),
  port: field.port(5432, { description: 'Port of its PostgreSQL.', reload: 'live' }),
  weight: field.integer(1, 0, 1000, {
    description: 'Share of the load among equals; 0 takes no new sessions.',
    reload: 'live',
  }),
  zone: field.label({ description: 'Where it stands; near nodes are preferred.', reload: 'live' }),
  priority: field.integer(1, 0, 1000, {
    description:
      'Preference at a failover, higher first; 0 never becomes primary. Used by failover under pgherd’s own management, which is not built yet.',
    reload: 'live',
  }),
  tags: field.tags({ description: 'Free labels.', reload: 'live' }),
})

const nodesSection = z
  .array(nodeSchema)
  .max(128)
  .superRefine(nodesRule)
  .prefault([])
  .register(field.sectionRegistry, {
    description:
      'PostgreSQL servers declared here, for a start without agents: the proxy asks each for its role. ' +
      'Nodes with an agent, and those added by `pgherd node add`, need not be listed.',
  })

const probeSection = field.section(
  'How a proxy asks the servers themselves for their role and position.',
  {
    user: field.text('postgres', {
      description: 'Role to connect as. It needs no more than `pg_monitor`.',
      reload: 'restart',
      env: 'PGHERD_PROBE_USER',
    }),
    password: field.secret({
      description: 'Its password.',
      reload: 'restart',
      env: 'PGHERD_PROBE_PASSWORD',
    }),
    password_file: field.file('secret', {
      description: 'File that holds its password.',
      reload: 'restart',
      env: 'PGHERD_PROBE_PASSWORD_FILE',
    }),
    database: field.text('postgres', { description: 'Database to connect to.', reload: 'restart' }),
    interval: field.duration(
      '1s',
      { description: 'Pause between two questions to one server.', reload: 'restart' },
      { min: 100, max: 3_600_000 },
    ),
    timeout: field.duration(
      '2s',
      {
        description: 'After this long without an answer a server counts as not reachable.',
        reload: 'restart',
      },
      { min: 100, max: 60_000 },
    ),
  },
  onePassword,
)

const routingSection = field.section('Who may serve what.', {
  replica_lag_max: field.size('16MB', {
    description: 'A replica that is further behind than this takes no new reads.',
    reload: 'live',
  }),
  read_fallback: field.choice(['primary', 'none'], 'primary', {
    description:
      'Who serves reads when no replica qualifies. `none` makes them wait for one. The ' +
      'primary takes whatever comes to the port for reads then, writes too.',
    reload: 'live',
  }),
  drain_timeout: field.duration('30s', {
    description: 'How long a session that cannot be moved may stay on a drained node.',
    reload: 'live',
  }),
})

const agentPostgresSection = field.section(
  'How the agent connects to its own PostgreSQL.',
  {
    host: field.hostOrSocket('127.0.0.1', {
      description: 'Host, or the folder of the Unix socket, such as `/var/run/postgresql`.',
      reload: 'restart',
      env: 'PGHERD_AGENT_HOST',
    }),
    port: field.port(5432, {
      description: 'Port, which is a part of the name of a Unix socket too.',
      reload: 'restart',
      env: 'PGHERD_AGENT_PORT',
    }),
    user: field.text('postgres', {
      description: 'Role to connect as. It needs no more than `pg_monitor`.',
      reload: 'restart',
      env: 'PGHERD_AGENT_USER',
    }),
    password: field.secret({
      description: 'Its password.',
      reload: 'restart',
      env: 'PGHERD_AGENT_PASSWORD',
    }),
    password_file: field.file('secret', {
      description: 'File that holds its password.',
      reload: 'restart',
      env: 'PGHERD_AGENT_PASSWORD_FILE',
    }),
    database: field.text('postgres', { description: 'Database to connect to.', reload: 'restart' }),
  },
  onePassword,
)

const agentSection = field.section(
  'The agent beside one PostgreSQL server.',
  {
    node: field.optionalName({
      description: 'Name of the node it reports. An agent does not start without one.',
      reload: 'restart',
      env: 'PGHERD_AGENT_NODE',
    }),
    advertise_host: field.optionalHost({
      description: 'Where proxies reach this PostgreSQL.',
      reload: 'restart',
      env: 'PGHERD_AGENT_ADVERTISE_HOST',
      defaultText: '`agent.postgres.host`, or the host name when that is a socket',
    }),
    advertise_port: field.advertisedPort({
      description: 'Port at which proxies reach this PostgreSQL.',
      reload: 'restart',
      env: 'PGHERD_AGENT_ADVERTISE_PORT',
      defaultText: '`agent.postgres.port`',
    }),
    zone: field.label({
      description: 'Where this node stands.',
      reload: 'restart',
      env: 'PGHERD_AGENT_ZONE',
    }),
    tags: field.tags({ description: 'Free labels of the node.', reload: 'restart' }),
    postgres: agentPostgresSection,
    interval: field.duration(
      '500ms',
      { description: 'Pause between two looks at PostgreSQL.', reload: 'restart' },
      { min: 50, max: 60_000 },
    ),
    report_interval: field.duration(
      '1s',
      {
        description:
          'Figures go to the store at most this often; a change of role or health goes at once. Longer where many nodes meet many proxies: [scale](scale.md).',
        reload: 'restart',
      },
      { min: 100, max: 60_000 },
    ),
    timeout: field.duration(
      '2s',
      {
        description: 'After this long without an answer PostgreSQL counts as not accepting.',
        reload: 'restart',
      },
      { min: 100, max: 60_000 },
    ),
    listen: field.host('127.0.0.1', {
      description: 'Address of the two health-check ports.',
      reload: 'restart',
      env: 'PGHERD_AGENT_LISTEN',
    }),
    http_port: field.optionalPort(8008, {
      description: 'Port of the HTTP health checks (`/primary`, `/replica`, ...); 0 for none.',
      reload: 'restart',
      env: 'PGHERD_AGENT_HTTP_PORT',
    }),
    check_port: field.optionalPort(8009, {
      description: 'Port that answers HAProxy’s `agent-check`; 0 for none.',
      reload: 'restart',
      env: 'PGHERD_AGENT_CHECK_PORT',
    }),
  },
  agentRule,
)

const adminSection = field.section(
  'The HTTP interface for metrics, health and control.',
  {
    listen: field.host('127.0.0.1', {
      description: 'Address to listen on. Anything but this machine’s own needs a token.',
      reload: 'restart',
      env: 'PGHERD_ADMIN_LISTEN',
    }),
    port: field.optionalPort(8432, {
      description: 'Port to listen on; 0 for none.',
      reload: 'restart',
      env: 'PGHERD_ADMIN_PORT',
    }),
    token: field.secret({
      description: 'What a request must carry as `Authorization: Bearer <token>`.',
      reload: 'restart',
      env: 'PGHERD_ADMIN_TOKEN',
    }),
    token_file: field.file('secret', {
      description: 'File that holds the token.',
      reload: 'restart',
      env: 'PGHERD_ADMIN_TOKEN_FILE',
    }),
  },
  adminRule,
)

export const configSchema = z.strictObject({
  cluster: field.name('main', {
    description: 'Name of the cluster: its keys in the store stand under `/pgherd/<cluster>/`.',
    reload: 'restart',
    env: 'PGHERD_CLUSTER',
  }),
  log: logSection,
  store: storeSection,
  nodes: nodesSection,
  probe: probeSection,
  proxy: proxySection,
  routing: routingSection,
  agent: agentSection,
  admin: adminSection,
})

/** What a file may hold, before defaults. */
export type ConfigInput = z.input<typeof configSchema>
/** What the schema makes of it. `Config` has what depends on the machine filled in as well. */
export type CheckedConfig = z.output<typeof configSchema>

export type NodeConfig = Omit<CheckedConfig['nodes'][number], 'name'> & { name: string }
type CheckedProxy = CheckedConfig['proxy']
export type ProxyConfig = Omit<CheckedProxy, 'id' | 'tls'> & { id: string; tls: ProxyTlsConfig }
export type ProxyTlsConfig = Omit<CheckedProxy['tls'], 'mode'> & { mode: TlsMode }
type TlsMode = NonNullable<CheckedProxy['tls']['mode']>
export type LogConfig = CheckedConfig['log']
export type StoreConfig = CheckedConfig['store']
export type ProbeConfig = CheckedConfig['probe']
export type RoutingConfig = CheckedConfig['routing']
export type AgentConfig = CheckedConfig['agent']
export type AdminConfig = CheckedConfig['admin']

/** The loaded configuration: durations in ms, sizes in bytes, secrets read from their files. */
export type Config = Omit<CheckedConfig, 'nodes' | 'proxy'> & { nodes: NodeConfig[]; proxy: ProxyConfig }
export type SectionName = Exclude<keyof Config, 'cluster'>

/** Variables that say where to look instead of setting a key. */
export const commandVariables: Readonly<Record<string, string>> = {
  PGHERD_CONFIG: 'Configuration file, when `--config` is not given.',
  PGHERD_NEW_PASSWORD: 'Password of the etcd user that `pgherd store user add` makes.',
  PGHERD_ADMIN_URL: 'Admin interface that commands talk to, when `--admin-url` is not given.',
}
