import { addCounters } from '../proxy/counters.ts'
import { disconnectReasons } from '../proxy/failures.ts'
import type { Topology } from '../topology/types.ts'
import { createMetrics } from './metrics.ts'

const emptyTopology: Topology = {
  cluster: '',
  revision: 0,
  intentRevision: 0,
  epoch: 0,
  systemId: '',
  nodes: [],
  primary: undefined,
  conflict: [],
  alarms: [],
  settings: { v: 1 },
}

/** The page `docs/metrics.md`, made from the metrics themselves. */
export async function metricsMarkdown(): Promise<string> {
  const registry = createMetrics({
    version: '',
    topology: () => emptyTopology,
    store: () => ({ up: true, sinceMs: 0, reason: undefined }),
    proxy: () => ({ counters: addCounters([]), workers: 0, crashes: 0, appliedRevision: 0 }),
  })
  const metrics = await registry.getMetricsAsJSON()
  const rows = metrics.map(({ name, type, help }) => `| \`${name}\` | ${String(type)} | ${help} |`)
  const reasons = disconnectReasons.map(reason => `\`${reason}\``).join(', ')
  return `<!-- Made from src/admin/metrics.ts by \`npm run docs\`. Changes belong there. -->
# Metrics

\`GET /metrics\` of the admin interface (port 8432) answers in the Prometheus text format. Metrics of a node carry
the label \`node\`, histograms the usual \`_bucket\`, \`_sum\` and \`_count\`. Agents have metrics of their own,
\`pgherd_agent_*\`, on their HTTP port (8008).

| name | type | what it is |
|---|---|---|
${rows.join('\n')}

\`state\` of \`pgherd_server_connections\` is \`active\` (a client uses it), \`idle\` (it waits for one) or
\`connecting\`. \`reason\` of \`pgherd_client_disconnects_total\` is one of ${reasons}.
`
}
