import type { WorkerCountersData } from '../proxy/counters.ts'
import type { ProxyStatus, Topology, TopologyNode } from '../topology/types.ts'
import { type Column, formatBytes, formatElapsed, formatNumber, painter, printable, table } from './output.ts'

/** What `/api/proxy` answers. */
export interface ProxyAnswer {
  counters: WorkerCountersData
  workers: number
  crashes: number
  appliedRevision: number
}

/** The cluster at one moment, and how that is known. */
export interface Status {
  /** `store`: no proxy was asked, so what only its own probe knows is missing. */
  source: 'admin' | 'store'
  store: { up: boolean; reason: string | undefined }
  topology: Topology
  /** Of the proxy that was asked. */
  proxy: ProxyAnswer | undefined
  /** Undefined when it could not be found out. */
  proxies: ProxyStatus[] | undefined
}

/** For scripts. `sessions` are those of all proxies on the node; null when no proxy tells. */
export function statusAsJson(status: Status): object {
  const { source, store, topology, proxy, proxies } = status
  return {
    source,
    store: { up: store.up, reason: store.reason ?? null },
    topology: {
      ...topology,
      primary: topology.primary ?? null,
      nodes: topology.nodes.map(node => ({ ...node, sessions: sessionsOn(node, status) ?? null })),
    },
    proxy: proxy ? { workers: proxy.workers, clients: proxy.counters.clients } : null,
    proxies: proxies ?? null,
  }
}

/** For people: what is wrong first, then the nodes with reasons, then the proxies. */
export function formatStatus(status: Status, view: { colour: boolean; width: number | undefined }): string {
  const { store, topology, proxies } = status
  const { colour, width } = view
  const paint = painter(colour)
  const alarms = topology.alarms.map(
    alarm => `${paint.red(paint.bold('alarm:'))} ${paint.red(printable(alarm))}\n`,
  )
  const storeState = store.up
    ? paint.green('up')
    : paint.red(`down${store.reason === undefined ? '' : ` (${printable(store.reason)})`}`)
  const title = `cluster ${paint.bold(printable(topology.cluster))}, revision ${topology.revision}, store ${storeState}\n`
  const note = status.source === 'store' ? paint.dim('no pgherd answers: this is what the store knows\n') : ''
  const parts = [
    alarms.join(''),
    title + note,
    topology.nodes.length === 0
      ? 'no node is known yet\n'
      : table(nodeColumns(status), topology.nodes, { colour, width }) + reasonLines(topology),
  ]
  if (proxies && proxies.length > 0) {
    const sorted = proxies.toSorted((a, b) => (a.id < b.id ? -1 : 1))
    parts.push(table(proxyColumns(topology.intentRevision), sorted, { colour, width }))
  }
  return parts.filter(part => part !== '').join('\n')
}

function nodeColumns(status: Status): Column<TopologyNode>[] {
  return [
    { title: 'NODE', value: node => node.name },
    {
      title: 'ROLE',
      value: node => node.role,
      paint: (cell, node, paint) => (node.role === 'primary' ? paint.bold(cell) : cell),
    },
    {
      title: 'STATE',
      value: stateOf,
      paint: (cell, node, paint) =>
        !node.accepting ? paint.red(cell) : node.state === 'active' ? paint.green(cell) : paint.yellow(cell),
    },
    { title: 'ADDRESS', value: node => `${node.host}:${node.port}`, optional: true },
    { title: 'TL', value: node => (node.timeline === 0 ? '-' : node.timeline), optional: true },
    { title: 'LAG', value: node => (node.lagBytes === undefined ? '-' : formatBytes(node.lagBytes)) },
    {
      title: 'BEHIND',
      value: node => (node.lagMs === undefined ? '-' : formatElapsed(node.lagMs)),
      optional: true,
    },
    { title: 'CONNECTIONS', value: connectionsOf },
    { title: 'SESSIONS', value: node => sessionsOn(node, status) ?? '-' },
    {
      title: 'TAKES',
      value: node => (node.writable ? 'writes' : node.readable ? 'reads' : '-'),
      paint: (cell, node, paint) => (node.writable || node.readable ? cell : paint.dim(cell)),
    },
  ]
}

function proxyColumns(intentRevision: number): Column<ProxyStatus>[] {
  const isBehind = (proxy: ProxyStatus): boolean => proxy.appliedRevision < intentRevision
  return [
    { title: 'PROXY', value: proxy => proxy.id },
    { title: 'ADDRESS', value: proxy => proxy.address },
    { title: 'CLIENTS', value: proxy => proxy.clients },
    {
      title: 'APPLIED',
      value: proxy => `${proxy.appliedRevision}${isBehind(proxy) ? ` of ${intentRevision}` : ''}`,
      paint: (cell, proxy, paint) => (isBehind(proxy) ? paint.yellow(cell) : cell),
    },
    { title: 'VERSION', value: proxy => proxy.version },
    { title: 'ADMIN', value: proxy => proxy.adminUrl || '-' },
  ]
}

function reasonLines({ nodes }: Topology): string {
  return nodes
    .flatMap(({ name, reasons }) => reasons.map(why => `${printable(name)}: ${printable(why)}\n`))
    .join('')
}

function stateOf({ accepting, state }: TopologyNode): string {
  if (accepting) return state
  return state === 'active' ? 'down' : `down, ${state}`
}

function connectionsOf({ connections }: TopologyNode): string {
  return connections ? `${formatNumber(connections.used)}/${formatNumber(connections.max)}` : '-'
}

/** Over all proxies where they tell, else those of the proxy that was asked. */
function sessionsOn({ name }: TopologyNode, { proxy, proxies = [] }: Status): number | undefined {
  const told = proxies.filter(({ sessions }) => sessions !== undefined)
  if (told.length > 0) return told.reduce((sum, { sessions }) => sum + (sessions?.[name] ?? 0), 0)
  return proxy && (proxy.counters.nodes[name]?.sessions ?? 0)
}
