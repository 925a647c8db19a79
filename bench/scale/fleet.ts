import type { NodeReport } from '../../src/agent/status.ts'

/** A made-up fleet: one primary, `n00000`, and replicas that follow it, with figures that never stand still. */

export interface Address {
  host: string
  port: number
}

const systemId = '7400000000000000001'
/** What the primary writes a second, in bytes of WAL. */
const walBytesPerSecond = 4 * 1024 * 1024

export function nodeName(index: number): string {
  return `n${String(index).padStart(5, '0')}`
}

/** What the agent of a node reports at `atMs`. The primary is at `primary`; the replicas are nowhere. */
export function reportOfNode(index: number, atMs: number, primary: Address): NodeReport {
  const writeLsn = Math.floor((atMs * walBytesPerSecond) / 1000)
  const swing = (atMs / 1000 + index * 7) % 20
  const common = {
    v: 1,
    zone: `zone-${index % 3}`,
    accepting: true,
    systemId,
    timeline: 3,
    connections: { max: 500, used: 40 + Math.floor(swing), active: 10, idleInTransaction: 2 },
    load: { cpu: Math.round(swing * 3) / 100, io: 0.1 },
    checkpoint: { requested: 3, timed: Math.floor(atMs / 300_000) },
    version: 150_000,
    agentVersion: '0',
  } as const
  if (index === 0) {
    const slots = Array.from({ length: 3 }, (_, slot) => ({
      name: `replica_${slot}`,
      active: true,
      retainedBytes: 16_384 + Math.floor(swing),
    }))
    return { ...common, ...primary, role: 'primary', writeLsn, slots }
  }
  return {
    ...common,
    host: `127.1.${Math.floor(index / 250)}.${(index % 250) + 1}`,
    port: 1,
    role: 'replica',
    receiveLsn: writeLsn - 4096,
    replayLsn: writeLsn - 8192 - index,
    lagMs: Math.floor(swing),
    replicationState: 'streaming',
    upstream: `${primary.host}:${primary.port}`,
    slots: [],
  }
}
