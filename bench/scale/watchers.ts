import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/log.ts'
import { systemRandom } from '../../src/runtime/random.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import { openEtcdStore } from '../../src/store/etcd.ts'
import { mirror } from '../../src/store/mirror.ts'
import { keysOf } from '../../src/topology/keys.ts'

/** A process with the mirrors of many proxies, each over a connection of its own. Tells how many changes came. */

export interface WatchersSettings {
  endpoints: string[]
  cluster: string
  proxies: number
}

export interface FromWatchers {
  ready: number
  changes: number
}

const world = { clock: systemClock, timers: systemTimers, random: systemRandom, log: silentLogger }
const tellEveryMs = 100

process.on('message', (settings: WatchersSettings) => void watchAll(settings))
process.on('disconnect', () => process.exit(0))

async function watchAll({ cluster, endpoints, proxies }: WatchersSettings): Promise<void> {
  const told: FromWatchers = { ready: 0, changes: 0 }
  systemTimers.every(tellEveryMs, () => process.send?.(told))
  for (let index = 0; index < proxies; index++) {
    const store = await openEtcdStore({ ...world, endpoints, requestTimeoutMs: 5000 })
    const following = mirror(store, keysOf(cluster).root, {
      ...world,
      onChange: (_entries, _revision, changedKeys) => {
        told.changes += changedKeys?.length ?? 0
      },
    })
    await following.ready
    told.ready++
  }
}
