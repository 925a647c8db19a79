import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { Logger } from '../runtime/log.ts'
import type { Timers } from '../runtime/timers.ts'
import type { NodeState, NodeStatus, TopologyNode } from '../topology/types.ts'
import type { Listening } from './http.ts'
import type { MachineLoad } from './load.ts'

/** A machine that is fully busy still gets this share of its weight, so that no load sends everybody elsewhere. */
const busyShare = 0.25
/** HAProxy refuses more: 256 times the weight in its configuration. */
const percentMax = 25_600
const reasonLengthMax = 100

/** What HAProxy calls the states of a node. */
const adminWords: Record<NodeState, string> = { active: 'ready', drain: 'drain', maintenance: 'maint' }

/**
 * The weight for HAProxy in percent of the one in its configuration: `100 * weight * (1 - 0.75 * load)`, where
 * `weight` is the operator's (1 is normal) and `load` the larger of CPU and I/O load. At least 1, so that load
 * alone never closes a node; 0 only for weight 0, which is the operator's way of saying "no new sessions".
 *
 * HAProxy computes with whole numbers: below `weight 100` in its configuration, and above all with its default
 * of 1, a percentage under 100 rounds to nothing. Servers with an agent-check need `weight 100` there.
 */
export function weightPercent(weight: number, load: MachineLoad | undefined): number {
  if (weight <= 0) return 0
  const busy = Math.min(1, Math.max(0, load?.cpu ?? 0, load?.io ?? 0))
  const percent = Math.round(100 * weight * (1 - (1 - busyShare) * busy))
  return Math.min(percentMax, Math.max(1, percent))
}

/**
 * The line that HAProxy's agent-check reads. It always names both the operational state (`up`, `down`) and the
 * administrative one (`ready`, `drain`, `maint`): only the agent can undo what the agent has said, so a line
 * that leaves one out would let an old word stand. The reason ends the line, after a blank and `#`: HAProxy does
 * not know the word `down#reason` and leaves the server up.
 */
export function checkLine(status: NodeStatus, node: TopologyNode | undefined): string {
  const admin = adminWords[node?.state ?? 'active']
  if (!status.accepting)
    return `${admin} down #${oneLine(status.reason ?? 'PostgreSQL does not accept connections')}\n`
  if (admin !== 'ready') return `up ${admin}\n`
  return `up ready ${weightPercent(node?.weight ?? 1, status.load)}%\n`
}

function oneLine(reason: string): string {
  return reason.replaceAll(/[^\x20-\x7e]+/g, ' ').slice(0, reasonLengthMax)
}

export interface CheckServerOptions {
  host: string
  /** 0 takes any free port. */
  port: number
  /** Undefined: nothing is known yet, the connection is closed without a word and HAProxy changes nothing. */
  line: () => string | undefined
  timers: Timers
  log: Logger
}

const connectionsMax = 64
const connectionLimitMs = 1_000

/** One line a connection. Rejects when the address cannot be listened on, and says which. */
export async function startCheckServer(options: CheckServerOptions): Promise<Listening> {
  const { host, port, line, timers, log } = options
  const open = new Set<Socket>()
  const server = createServer(socket => {
    open.add(socket)
    const limit = timers.after(connectionLimitMs, () => socket.destroy())
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      limit.cancel()
      open.delete(socket)
    })
    // What `agent-send` sends is read and dropped: unread bytes would turn our close into a reset.
    socket.resume()
    socket.end(line() ?? '')
  })
  server.maxConnections = connectionsMax
  await new Promise<void>((resolve, reject) => {
    server.once('error', cause =>
      reject(
        new Error(`cannot listen on ${host}:${port} for agent checks; choose another address`, { cause }),
      ),
    )
    server.listen(port, host, resolve)
  })
  server.on('error', err => log.error({ event: 'agent.check', err }, 'the agent-check server has a problem'))
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        for (const socket of open) socket.destroy()
      }),
  }
}
