import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { EtcdCluster } from '../../test/support/etcd.ts'
import { Agents, endProgram, etcdBytes, Usage, Watchers } from './run.ts'

export interface FanOutAsked {
  nodes: number
  proxies: number
  seconds: number
}

const settleMs = 2000

/** What etcd has to do for so many agents, each reporting once a second, and for so many proxies that watch them. */
export async function measureFanOut({
  nodes,
  proxies,
  seconds,
}: FanOutAsked): Promise<Record<string, number>> {
  const etcd = await EtcdCluster.start()
  const [member] = etcd.members
  const children: { child: Agents['child'] }[] = []
  try {
    const agents = await Agents.start({
      endpoints: etcd.endpoints,
      nodes,
      periodMs: 1000,
      leaseTtlMs: 5000,
      primary: { host: '127.0.0.1', port: 5432 },
      clusters: ['main'],
    })
    children.push(agents)
    const watchers =
      proxies > 0 && (await Watchers.start({ endpoints: etcd.endpoints, cluster: 'main', proxies }))
    if (watchers) children.push(watchers)
    await pause(systemTimers, settleMs)

    const before = {
      written: agents.written,
      changes: watchers ? watchers.told.changes : 0,
      bytes: await etcdBytes(member!),
    }
    const usage = new Usage({ etcd: member!.pid!, ...(watchers && { watchers: watchers.child.pid! }) })
    await pause(systemTimers, seconds * 1000)
    const percent = usage.percent()
    const bytes = await etcdBytes(member!)
    return {
      nodes,
      proxies,
      'writes/s': Math.round((agents.written - before.written) / seconds),
      'changes told/s': Math.round(((watchers ? watchers.told.changes : 0) - before.changes) / seconds),
      'etcd % of a core': percent['etcd'] ?? 0,
      '% of a core per watcher': Math.round((10 * (percent['watchers'] ?? 0)) / Math.max(1, proxies)) / 10,
      'kB/s from agents': Math.round((bytes.received - before.bytes.received) / seconds / 1000),
      'kB/s told': Math.round((bytes.sent - before.bytes.sent) / seconds / 1000),
      'MB an hour without compaction': Math.round(((bytes.file - before.bytes.file) / seconds) * 3.6e-3),
    }
  } finally {
    for (const { child } of children) await endProgram(child)
    await etcd.stop()
  }
}
