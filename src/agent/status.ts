import { acceptsOthers } from '../probe/failure.ts'
import type { Sample } from '../probe/probe.ts'
import type { NodeFacts, NodeStatus } from '../topology/types.ts'
import type { MachineLoad } from './load.ts'

/** A status before it is numbered and dated, which happens when it is written. */
export type NodeReport = Omit<NodeStatus, 'seq' | 'at'>

/** What an agent says of its node whatever PostgreSQL answers. */
export interface NodeIdentity {
  /** Where clients of the node connect to; not necessarily how the agent itself reaches it. */
  host: string
  port: number
  zone: string
  agentVersion: string
}

/** The facts of a server that has never been reached. */
const nothingKnown: NodeFacts = {
  role: 'unknown',
  systemId: '',
  timeline: 0,
  connections: { max: 0, used: 0, active: 0, idleInTransaction: 0 },
  slots: [],
  version: 0,
}

/**
 * The report that follows from a sample:
 * - facts: they are reported; `accepting` is true, also when a new connection of the agent was refused for a
 *   reason that concerns the agent alone (all connections taken, password changed): then `reason` says so.
 * - no facts because no connection is left: the server lives and serves others; the last known role stays.
 * - no facts because the agent may not ask: the server accepts connections, but what it is now, nobody here
 *   knows, so the role is `unknown` and others have to look for themselves.
 * - anything else: not accepting, with the reason; role and figures stay the last known.
 */
export function reportOf(
  sample: Sample,
  last: NodeReport | undefined,
  identity: NodeIdentity,
  load: MachineLoad | undefined,
): NodeReport {
  const common = { v: 1, ...identity, ...(load && { load }) } as const
  if (sample.facts) {
    const reason = sample.warning?.reason
    return { ...common, accepting: true, ...(reason !== undefined && { reason }), ...sample.facts }
  }
  const { kind, reason } = sample.failure
  const report: NodeReport = { ...(last ?? nothingKnown), ...common, accepting: acceptsOthers(kind), reason }
  if (!load) delete report.load
  if (kind === 'denied') report.role = 'unknown'
  return report
}

/** Load swings less than this are not worth a write. */
const loadStep = 0.05

/** How a report differs from the one before: in what routing must know at once, in figures, or not at all. */
export type Difference = 'urgent' | 'figures' | 'none'

export function differenceOf(before: NodeReport | undefined, after: NodeReport): Difference {
  if (!before) return 'urgent'
  if (
    before.role !== after.role ||
    before.accepting !== after.accepting ||
    before.timeline !== after.timeline ||
    before.systemId !== after.systemId ||
    before.host !== after.host ||
    before.port !== after.port
  )
    return 'urgent'
  const { load: loadBefore, ...restBefore } = before
  const { load: loadAfter, ...restAfter } = after
  // Both objects are made by `reportOf`, but a field that comes and goes may change their order: that costs one
  // write too many, never one too few.
  if (JSON.stringify(restBefore) !== JSON.stringify(restAfter)) return 'figures'
  return loadMoved(loadBefore, loadAfter) ? 'figures' : 'none'
}

function loadMoved(before: MachineLoad | undefined, after: MachineLoad | undefined): boolean {
  if (!before || !after) return before !== after
  const moved = (a = 0, b = 0): boolean => Math.abs(a - b) >= loadStep
  return moved(before.cpu, after.cpu) || moved(before.io, after.io)
}

/** Whether to write now: at once when it is urgent, else at most every `periodMs`, and never for nothing. */
export function shouldWrite(
  written: NodeReport | undefined,
  writtenAtMs: number,
  report: NodeReport,
  nowMs: number,
  periodMs: number,
): boolean {
  const difference = differenceOf(written, report)
  return difference === 'urgent' || (difference === 'figures' && nowMs - writtenAtMs >= periodMs)
}
