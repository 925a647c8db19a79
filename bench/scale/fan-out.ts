import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { EtcdCluster } from '../../test/support/etcd.ts'
import { Agents, endProgram, etcdTraffic, Usage, Watchers } from './run.ts'

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
      traffic: await etcdTraffic(member!),
    }
    const usage = new Usage({ etcd: member!.pid!, ...(watchers && { watchers: watchers.child.pid! }) })
    await pause(systemTimers, seconds * 1000)
    const percent = usage.percent()
    const traffic = await etcdTraffic(member!)
    return {
      nodes,
      proxies,
      'writes/s': Math.round((agents.written - before.written) / seconds),
      'changes told/s': Math.round(((watchers ? watchers.told.changes : 0) - before.changes) / seconds),
      'etcd % of a core': percent['etcd'] ?? 0,
      '% of a core per watcher': Math.round((10 * (percent['watchers'] ?? 0)) / Math.max(1, proxies)) / 10,
      'kB/s from agents': Math.round((traffic.received - before.traffic.received) / seconds / 1000),
      'kB/s told': Math.round((traffic.sent - before.traffic.sent) / seconds / 1000),
    }
  } finally {
    for (const { child } of children) await endProgram(child)
    await etcd.stop()
  }
}
