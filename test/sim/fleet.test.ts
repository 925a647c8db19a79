import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nodeName, reportOfNode } from '../../bench/scale/fleet.ts'
import { Reporter } from '../../src/agent/reporter.ts'
import { Presence } from '../../src/proxy/control/presence.ts'
import { silentLogger } from '../../src/runtime/log.ts'
import { seededRandom } from '../../src/runtime/random.ts'
import { type Mirror, mirror } from '../../src/store/mirror.ts'
import { keysOf } from '../../src/topology/keys.ts'
import { spreadOf } from '../../src/topology/spread.ts'
import { FakeTime } from '../support/fake-time.ts'
import { ModelCluster, type RequestKind } from './model-store.ts'

/**
 * A fleet of proxies loses its store and gets it back: the code that talks to the store is the real one, the store, the
 * time and chance are not. What is looked at is what the store is asked, and when.
 */

const keys = keysOf('main')
const leaseTtlMs = 10_000
/** Over how long the processes of the fleet were started. */
const startsMs = 20_000

interface Fleet {
  time: FakeTime
  cluster: ModelCluster
  presences: Presence[]
  /** The revision at which each mirror stands. */
  revisions: number[]
  /** How many proxies each mirror knows. */
  known: number[]
  close(): Promise<void>
}

/** `spread`: how the proxies spread what they ask for because of one event. */
async function startFleet(size: number, spread: (proxies: number) => number): Promise<Fleet> {
  const time = new FakeTime()
  const random = seededRandom(7)
  const cluster = new ModelCluster(time, random)
  const mirrors: Mirror[] = []
  const fleet: Fleet = {
    time,
    cluster,
    presences: [],
    revisions: [],
    known: [],
    close: async () => {
      for (const each of mirrors) each.close()
      await Promise.all(fleet.presences.map(each => each.close()))
    },
  }
  const world = { timers: time, random, log: silentLogger }
  const startOne = (index: number): void => {
    const store = cluster.connect()
    const spreadMs = (): number => spread(fleet.known[index] ?? 0)
    const onChange = (entries: ReadonlyMap<string, unknown>, revision: number): void => {
      fleet.known[index] = entries.size
      fleet.revisions[index] = revision
    }
    mirrors.push(mirror(store, keys.root, { onChange, spreadMs, ...world }))
    const status = { v: 1, id: `p${index}`, address: `10.0.0.1:${index}`, adminUrl: '' } as const
    const figures = { appliedRevision: 0, clients: 0, version: '', at: '' }
    const options = { store, cluster: 'main', leaseTtlMs, spreadMs, clock: time, ...world }
    fleet.presences.push(new Presence({ ...options, status: () => ({ ...status, ...figures }) }))
  }
  for (let index = 0; index < size; index++) {
    time.after(random.next() * startsMs, () => startOne(index))
  }
  await time.pass(startsMs + leaseTtlMs)
  assert.equal(cluster.entries.size, size)
  return fleet
}

/** The store is lost now, and comes back without its history; returns when. */
async function outage({ cluster, time }: Fleet, durationMs: number): Promise<number> {
  cluster.kill()
  await time.pass(durationMs)
  // Something has happened that nobody has seen, and that the store has forgotten.
  cluster.put(`${keys.root}seen`, '', undefined)
  cluster.compact()
  cluster.revive()
  return time.nowMs()
}

/** Whether every mirror has all `count` keys as they stand in the store. */
const isWhole = ({ cluster, known, revisions }: Fleet, count: number): boolean =>
  cluster.entries.size === count &&
  known.every(each => each === count) &&
  revisions.every(revision => revision === cluster.revision)

const all = ['get', 'list', 'write', 'grant', 'renew', 'watch', 'status'] as const

test('a thousand proxies lose the store and its history, and come back one after the other', async () => {
  const size = 1000
  const fleet = await startFleet(size, spreadOf)
  const { cluster, time } = fleet
  const lostMs = time.nowMs()
  // Longer than a lease: every row has to be written anew, as everybody has to list everything.
  const backMs = await outage(fleet, 60_000)
  await time.pass(15_000)
  assert.ok(isWhole(fleet, size + 1), 'everybody knows everybody again')

  const [leasesOverMs, endMs] = [lostMs + leaseTtlMs, time.nowMs()]
  const most = (fromMs: number, toMs: number, windowMs: number, ...kinds: RequestKind[]): number =>
    cluster.peak(fromMs, toMs, windowMs, ...kinds)
  atMost(most(lostMs, leasesOverMs, 100, 'watch'), 120, 'attempts to watch in 0.1 s')
  atMost(most(lostMs, leasesOverMs, 1000, ...all), 2500, 'requests in a second while leases might be saved')
  atMost(most(leasesOverMs, backMs, 1000, ...all), 1200, 'requests in a second without the store')
  atMost(most(backMs, endMs, 100, 'list'), 60, 'listings in 0.1 s')
  atMost(most(backMs, endMs, 1000, 'list'), 350, 'listings in a second')
  for (const kind of ['get', 'grant', 'write'] as const) {
    atMost(most(backMs, endMs, 1000, kind), 400, `requests to ${kind} in a second`)
    assert.equal(cluster.total(backMs, endMs, kind), size, `each proxy does it once: ${kind}`)
  }
  assert.equal(cluster.total(backMs, endMs, 'list'), size, 'nobody lists twice')
  await fleet.close()
})

test('a thousand proxies lose the store for a moment: none lists or writes anything', async () => {
  const size = 1000
  const fleet = await startFleet(size, spreadOf)
  const { cluster, time } = fleet
  const lostMs = time.nowMs()
  cluster.kill()
  await time.pass(300)
  cluster.revive()
  await time.pass(8000)
  cluster.put(`${keys.root}new`, '', undefined)
  assert.ok(isWhole(fleet, size + 1), 'everybody watches again')
  atMost(cluster.peak(lostMs, time.nowMs(), 100, 'watch'), 120, 'attempts to watch in 0.1 s')
  assert.equal(cluster.total(lostMs, time.nowMs(), 'list', 'write', 'grant', 'get'), 0)
  await fleet.close()
})

test('a small fleet is back within a second', async () => {
  const size = 10
  const fleet = await startFleet(size, spreadOf)
  const { cluster, time } = fleet
  cluster.kill()
  await time.pass(5000)
  cluster.revive()
  await time.pass(1300)
  cluster.put(`${keys.root}new`, '', undefined)
  assert.ok(isWhole(fleet, size + 1))
  await fleet.close()
})

test('without spreading what they do, all proxies would come back at once', async () => {
  const size = 300
  const fleet = await startFleet(size, () => 0)
  const { cluster, time } = fleet
  const lostMs = time.nowMs()
  cluster.kill()
  await time.pass(300)
  assert.equal(cluster.peak(lostMs, time.nowMs(), 100, 'watch'), size)
  await fleet.close()
})

test('a thousand agents lose the store: they come back within a second, and ask for everything once', async () => {
  const size = 1000
  const time = new FakeTime()
  const random = seededRandom(11)
  const cluster = new ModelCluster(time, random)
  const world = { clock: time, timers: time, random, log: silentLogger }
  const reporters = Array.from({ length: size }, (_, index) => {
    const store = cluster.connect()
    return new Reporter({
      store,
      cluster: 'main',
      node: nodeName(index),
      leaseTtlMs,
      periodMs: 1000,
      ...world,
    })
  })
  for (const [index, reporter] of reporters.entries()) {
    const report = (): void => reporter.report(reportOfNode(index, time.nowMs(), { host: 'a', port: 5432 }))
    time.after(random.next() * 1000, () => time.every(1000, report))
  }
  await time.pass(5000)
  assert.equal(cluster.entries.size, size)
  cluster.kill()
  const lostMs = time.nowMs()
  const lostRevision = cluster.revision
  await time.pass(30_000)
  cluster.revive()
  const backMs = time.nowMs()
  await time.pass(8000)
  assert.ok([...cluster.entries.values()].every(({ modRevision }) => modRevision > lostRevision))
  atMost(cluster.peak(lostMs, lostMs + leaseTtlMs, 1000), 7000, 'requests while leases might be saved')
  atMost(cluster.peak(lostMs + leaseTtlMs, backMs, 1000), 3500, 'requests in a second without the store')
  atMost(cluster.peak(backMs, time.nowMs(), 100, 'grant'), 320, 'leases in 0.1 s')
  assert.equal(cluster.total(backMs, time.nowMs(), 'grant'), size, 'each agent asks for one lease')
  await Promise.all(reporters.map(reporter => reporter.stop()))
})

function atMost(value: number, limit: number, what: string): void {
  assert.ok(value <= limit, `${value} ${what}, more than ${limit}`)
}
