import { z } from 'zod'
import type { FleetSettings, HistoryEntry, Leader, NodeIntent, NodeStatus, ProxyStatus } from './types.ts'

/**
 * Reads and writes the JSON that stands in the store's keys. Unknown fields are kept (`looseObject`), so that an
 * older version that rewrites a value does not drop what a newer one put there. A value that cannot be read is
 * reported with the field at fault and treated as absent; it never takes the process down.
 */
const count = z.number().int().min(0)
const lsn = z.number().min(0).max(Number.MAX_SAFE_INTEGER)
const port = z.number().int().min(1).max(65535)
const role = z.enum(['primary', 'replica', 'unknown'])
const connections = z.object({ max: count, used: count, active: count, idleInTransaction: count })
const machineLoad = z.object({ cpu: z.number(), io: z.number().optional() })

const nodeIntent = z.looseObject({
  v: z.literal(1),
  host: z.string().min(1),
  port,
  weight: z.number().min(0).max(1000).default(1),
  zone: z.string().default(''),
  priority: z.number().int().min(0).max(1000).default(1),
  state: z.enum(['active', 'drain', 'maintenance']).default('active'),
  tags: z.record(z.string(), z.string()).default({}),
})

const nodeStatus = z.looseObject({
  v: z.literal(1),
  seq: count,
  host: z.string().min(1),
  port,
  zone: z.string().default(''),
  role,
  accepting: z.boolean(),
  reason: z.string().optional(),
  systemId: z.string(),
  timeline: count,
  writeLsn: lsn.optional(),
  receiveLsn: lsn.optional(),
  replayLsn: lsn.optional(),
  lagMs: z.number().optional(),
  replicationState: z.string().optional(),
  upstream: z.string().optional(),
  connections,
  load: machineLoad.optional(),
  checkpoint: z.object({ requested: count, timed: count }).optional(),
  slots: z.array(z.object({ name: z.string(), active: z.boolean(), retainedBytes: z.number() })).default([]),
  version: count,
  agentVersion: z.string(),
  at: z.string(),
})

const proxyStatus = z.looseObject({
  v: z.literal(1),
  id: z.string(),
  address: z.string(),
  adminUrl: z.string(),
  cancelPrefix: z.number().int().min(0).max(255).optional(),
  appliedRevision: count,
  clients: count,
  sessions: z.record(z.string(), count).optional(),
  version: z.string(),
  ownSettings: z.array(z.string()).optional(),
  at: z.string(),
})

const settings = z.looseObject({
  v: z.literal(1),
  values: z.record(z.string(), z.unknown()).optional(),
  replicaLagBytesMax: z.number().min(0).optional(),
  readFallback: z.enum(['primary', 'none']).optional(),
  drainTimeoutMs: z.number().min(0).optional(),
})

const history = z.looseObject({
  v: z.literal(1),
  id: z.string(),
  at: z.string(),
  who: z.string(),
  what: z.string(),
  why: z.string().optional(),
  nodes: z.record(z.string(), z.object({ before: nodeIntent.nullable(), after: nodeIntent.nullable() })),
  settings: z.record(z.string(), z.object({ before: z.unknown(), after: z.unknown() })),
})

const leader = z.looseObject({ v: z.literal(1), node: z.string(), timeline: count })

/** A value from the store: decoded, or the sentence that says what is wrong with it. */
export type Decoded<T> = { value: T; problem?: undefined } | { value?: undefined; problem: string }

function decoder<T>(what: string, schema: z.ZodType): (text: string) => Decoded<T> {
  return text => {
    let json: unknown
    try {
      json = JSON.parse(text)
    } catch {
      return { problem: `${what} is not JSON` }
    }
    const parsed = schema.safeParse(json)
    if (parsed.success) return { value: parsed.data as T }
    const [issue] = parsed.error.issues
    const where = issue && issue.path.length > 0 ? ` at ${issue.path.join('.')}` : ''
    return { problem: `${what} cannot be read${where}: ${issue?.message ?? 'unknown form'}` }
  }
}

export const decodeNodeIntent = decoder<NodeIntent>('node intent', nodeIntent)
export const decodeNodeStatus = decoder<NodeStatus>('node status', nodeStatus)
export const decodeProxyStatus = decoder<ProxyStatus>('proxy status', proxyStatus)
export const decodeSettings = decoder<FleetSettings>('settings', settings)
export const decodeHistory = decoder<HistoryEntry>('history entry', history)
export const decodeLeader = decoder<Leader>('leader', leader)

/** One line of JSON with the fields in the order given. */
export function encode(
  value: NodeIntent | NodeStatus | ProxyStatus | FleetSettings | HistoryEntry | Leader,
): string {
  return JSON.stringify(value)
}
