import { disconnectReasons } from '../proxy/client/failures.ts'
import { addCounters } from '../proxy/counters.ts'
import { pinReasons } from '../proxy/session/session-question.ts'
import { keysOf } from '../topology/keys.ts'
import { ClusterState } from '../topology/state.ts'
import { buildTopology } from '../topology/topology.ts'
import { createMetrics } from './metrics.ts'

/** The page `docs/metrics.md`, made from the metrics themselves. */
export async function metricsMarkdown(): Promise<string> {
  const defaults = { replicaLagBytesMax: 0, readFallback: 'none', drainTimeoutMs: 0 } as const
  const topology = buildTopology('', new ClusterState(keysOf('')), defaults)
  const registry = createMetrics({
    version: '',
    topology: () => topology,
    store: () => ({ up: true, sinceMs: 0, reason: undefined }),
    proxy: () => ({ counters: addCounters([]), workers: 0, crashes: 0, appliedRevision: 0 }),
  })
  const metrics = await registry.getMetricsAsJSON()
  const rows = metrics.map(({ name, type, help }) => `| \`${name}\` | ${String(type)} | ${help} |`)
  const pins = Object.entries(pinReasons).map(([reason, meaning]) => `- \`${reason}\`: ${meaning}`)
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

Each worker tells the figures of its first 200 pools one by one; the others are added up with the labels \`other\`.

A client of a shared pool keeps its server connection between two transactions (\`pgherd_pins_total\`,
\`pgherd_pinned_clients\`) because

${pins.join('\n')}
`
}
