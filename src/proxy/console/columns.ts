/**
 * The tables of the console: names, types and order of PgBouncer 1.25, because there are programs that read them by
 * position and count. What only pgherd knows stands behind, and is left out for who connects to `pgbouncer`.
 */

/** Type of a column, by PostgreSQL's name for it. */
export type ColumnType = 'text' | 'int4' | 'int8' | 'numeric'

export interface Column {
  name: string
  type: ColumnType
}

/** A value as it travels between processes: numbers are whole. */
export type Cell = string | number | null
export type Row = Cell[]

interface Table {
  /** Those of PgBouncer. */
  columns: readonly Column[]
  /** Behind them, for who connects to the console by its own name. */
  own: readonly Column[]
  /** The commands of PgBouncer have it. */
  isPgbouncers: boolean
}

/** `name` is text, `name:type` is not. */
function columnsOf(spec: string): Column[] {
  return spec
    .split(/\s+/)
    .filter(word => word !== '')
    .map(word => {
      const [name = '', type = 'text'] = word.split(':')
      return { name, type: type as ColumnType }
    })
}

function table(columns: string, own = ''): Table {
  return { columns: columnsOf(columns), own: columnsOf(own), isPgbouncers: true }
}

function ownTable(columns: string): Table {
  return { columns: columnsOf(columns), own: [], isPgbouncers: false }
}

const sockets = `type user database replication state addr port:int4 local_addr local_port:int4 connect_time
  request_time wait:int4 wait_us:int4 close_needed:int4 ptr link remote_pid:int4 tls application_name
  prepared_statements:int4 id:int4`
const buffers = `recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4 send_remain:int4 pkt_avail:int4
  send_avail:int4`
const ownOfClients = 'node pool_mode route pins worker:int4'

/** What one database has done, in the order of `StatsData`. */
const statNames = [
  'server_assignment_count',
  'xact_count',
  'query_count',
  'received',
  'sent',
  'xact_time',
  'query_time',
  'wait_time',
  'client_parse_count',
  'server_parse_count',
  'bind_count',
]
const totals = statNames.map(name => `total_${name}:numeric`).join(' ')
const averages = statNames.map(name => `avg_${name === 'received' ? 'recv' : name}:numeric`).join(' ')
/** In PgBouncer the same figures have other names in each of its tables. */
const bare = statNames.map(name => (name === 'received' || name === 'sent' ? `bytes_${name}` : name))
const bareTotals = bare.map(name => `${name}:numeric`).join(' ')
const bareAverages = bare
  .map(name => `${/^(client_parse|server_parse|bind)/.test(name) ? 'avg_' : ''}${name}:numeric`)
  .join(' ')

export const tables = {
  active_sockets: table(`${sockets} ${buffers}`, ownOfClients),
  clients: table(sockets, ownOfClients),
  config: table('key value default changeable'),
  databases: table(
    `name host port:int4 database force_user pool_size:int4 min_pool_size:int4 reserve_pool_size:int4
     server_lifetime:int4 pool_mode load_balance_hosts max_connections:int4 current_connections:int4
     max_client_connections:int4 current_client_connections:int4 paused:int4 disabled:int4`,
  ),
  dns_hosts: table('hostname ttl:int8 addrs'),
  dns_zones: table('zonename serial:int8 count:int4'),
  lanes: ownTable(
    `id:int4 database user node server_pid:int4 state units:int4 clients:int4 head_ms:int8 answered:int8
     lane_limit:int4 since seconds:int4 worker:int4`,
  ),
  lists: table('list items:int4'),
  mem: table('name size:int4 used:int4 free:int4 memtotal:int4'),
  nodes: ownTable(
    `name host port:int4 role state accepting writable readable lag_bytes:int8 lag_ms:int8 sessions:int4
     idle:int4 connecting:int4 waiting:int4 used_connections:int4 max_connections:int4 zone weight:int4
     source why`,
  ),
  peer_pools: table(
    `peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4 sv_login:int4`,
  ),
  peers: table('peer_id:int4 host port:int4 pool_size:int4'),
  pin_totals: ownTable('reason pinned:int4 total:numeric meaning'),
  pins: ownTable(
    `id:int4 user database node server_pid:int4 pins since seconds:int4 addr port:int4 application_name
     worker:int4`,
  ),
  pools: table(
    `database user cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4
     sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 sv_used:int4 sv_tested:int4
     sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode load_balance_hosts`,
    'cl_pinned:int4 nodes',
  ),
  servers: table(sockets, 'node worker:int4'),
  sockets: table(`${sockets} ${buffers}`, ownOfClients),
  state: table('key value'),
  stats: table(`database ${totals} ${averages}`),
  stats_averages: table(`database ${bareAverages}`),
  stats_totals: table(`database ${bareTotals}`),
  totals: table('name value:numeric'),
  users: table(
    `name pool_size reserve_pool_size pool_mode max_user_connections:int4 current_connections:int4
     max_user_client_connections:int4 current_client_connections:int4`,
  ),
  version: table('version'),
} as const satisfies Record<string, Table>

export type TableName = keyof typeof tables

export function isTableName(name: string): name is TableName {
  return Object.hasOwn(tables, name)
}

/** The columns of a table, with pgherd's own or without. */
export function columnsFor(name: TableName, withOwn: boolean): readonly Column[] {
  const { columns, own } = tables[name]
  return withOwn ? [...columns, ...own] : columns
}

/** The names under which `SHOW TOTALS` lists what `SHOW STATS` has in columns. */
export const totalsNames: readonly string[] = ['total_', 'avg_'].flatMap(prefix =>
  statNames.map(name => `${prefix}${totalsName(name)}`),
)

function totalsName(name: string): string {
  if (name === 'received') return 'client_bytes'
  if (name === 'sent') return 'server_bytes'
  return /^(client_parse|server_parse|bind)/.test(name) ? `ps_${name}` : name
}

/** Names come from clients as bytes, one character each; what is shown is text. */
export function shown(name: string): string {
  return Buffer.from(name, 'latin1').toString('utf8')
}

/** The other way round: a name that was typed, as clients send it. */
export function typed(name: string): string {
  return Buffer.from(name, 'utf8').toString('latin1')
}
