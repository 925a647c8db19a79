import type { Logger } from '../runtime/log.ts'
import type { Timers } from '../runtime/timers.ts'
import type { EmbeddedStore } from '../store/embedded.ts'
import { createStoreHandler } from '../store/serve.ts'
import type { ProxyStatus, Topology } from '../topology/types.ts'
import { type AdminServer, json, type Route, startAdminServer, text } from './http.ts'
import { createMetrics, type MetricSources } from './metrics.ts'
import { restartWorkersPath } from './paths.ts'

export interface AdminOptions {
  listen: string
  port: number
  token: string | undefined
  sources: MetricSources
  proxies: () => ProxyStatus[]
  /** Undefined when the process is ready for clients, else why it is not. */
  notReady: () => string | undefined
  /** Has the data workers replaced; gives back how many. Undefined in a process without any. */
  restartWorkers: (() => number) | undefined
  /** Given where the process owns the embedded store: other processes reach it through here. */
  store: EmbeddedStore | undefined
  timers: Timers
  log: Logger
}

/** Starts the admin interface: health, metrics, the topology, and the embedded store for the command line. */
export async function startAdmin(options: AdminOptions): Promise<AdminServer> {
  const { sources, log } = options
  const registry = createMetrics(sources)
  const storeHandler = options.store && createStoreHandler(options.store, { timers: options.timers, log })
  const routes = new Map<string, Route>([
    ['/', () => text(200, index)],
    ['/healthz', () => text(200, 'ok\n')],
    [
      '/readyz',
      () => {
        const problem = options.notReady()
        return problem === undefined ? text(200, 'ok\n') : text(503, `${problem}\n`)
      },
    ],
    ['/metrics', async () => ({ status: 200, type: registry.contentType, body: await registry.metrics() })],
    ['/api/topology', () => json(200, topologyOf(sources, options.proxies()))],
    ['/api/proxy', () => json(200, sources.proxy?.() ?? null)],
  ])
  const { restartWorkers } = options
  const actions = new Map<string, Route>()
  if (restartWorkers) actions.set(restartWorkersPath, () => json(202, { workers: restartWorkers() }))
  const server = await startAdminServer({
    listen: options.listen,
    port: options.port,
    token: options.token,
    routes,
    actions,
    openPaths: new Set(['/healthz', '/readyz']),
    other: storeHandler && ((request, response) => storeHandler.handle(request, response)),
    log,
  })
  return {
    port: server.port,
    url: server.url,
    close: async () => {
      storeHandler?.close()
      await server.close()
    },
  }
}

/** The place of the dashboard. */
const index = `pgherd
  /metrics       Prometheus metrics
  /api/topology  nodes, roles, reasons, alarms
  /api/proxy     what the workers have counted
  /api/proxy/restart-workers   (POST) replaces them by new processes, one after the other
  /healthz       this process runs
  /readyz        it is ready for clients
`

export interface TopologyAnswer {
  store: { up: boolean; reason: string | undefined }
  topology: Topology
  /** What the proxies of the cluster report, this one included. */
  proxies: ProxyStatus[]
}

function topologyOf({ topology, store }: MetricSources, proxies: ProxyStatus[]): TopologyAnswer {
  const { up, reason } = store()
  return { store: { up, reason }, topology: topology(), proxies }
}
