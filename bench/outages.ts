import { systemRandom } from '../src/runtime/random.ts'
import { pause, systemTimers } from '../src/runtime/timers.ts'
import { keysOf } from '../src/topology/keys.ts'
import { EtcdMember, type EtcdOptions } from '../test/support/etcd.ts'
import { Fleet } from '../test/support/fleet.ts'
import { Network } from '../test/support/network.ts'
import { openEtcd, put, write } from '../test/support/stores.ts'
import { percentile } from './statistics.ts'

/**
 * How long it takes after the return of the store until a change that is made in that moment is in force on the proxy, the
 * alarm is over and agents are believed again, for everything that can take the store away:
 * `node dist/bench/outages.js [turns] [words of the outages]`, 10 of every outage unless said. PostgreSQL, etcd, agents and
 * the proxy are real and run on this machine. Takes root, for network namespaces.
 */
const quotaBytes = 16 * 1024 * 1024
const primary = 'a'

/** An outage: `begin` takes the store away, `end` resolves the moment that it is back. */
interface Outage {
  what: string
  begin(fleet: Fleet): Promise<unknown>
  end(fleet: Fleet): Promise<unknown>
  /** For a store that is away for too short a time to be noticed. */
  durationMs?: () => number
}

const seconds = (least: number, most: number) => (): number =>
  1000 * (least + systemRandom.next() * (most - least))

const one = ({ etcd }: Fleet): EtcdMember => etcd.members[0]!

async function startAgain(fleet: Fleet): Promise<void> {
  one(fleet).start()
  await one(fleet).healthy()
}

const killed: Outage = { what: 'killed', begin: fleet => one(fleet).kill(), end: startAgain }

const stopped: Outage = {
  what: 'stopped',
  begin: async fleet => one(fleet).pause(),
  end: async fleet => one(fleet).resume(),
}

const full: Outage = {
  what: 'full',
  begin: async ({ etcd }) => {
    const store = await openEtcd(etcd.endpoints)
    const key = `${keysOf('other').root}big`
    try {
      for (;;) await write(store, put(key, 'x'.repeat(1_000_000)))
    } catch (cause) {
      if ((cause as { code?: string }).code !== 'full') throw cause
    } finally {
      await store.close()
    }
  },
  end: async ({ etcd }) => {
    await etcd.compact()
    await etcd.ctl(['defrag'])
    await etcd.ctl(['alarm', 'disarm'])
  },
}

const compacted: Outage = {
  what: 'compacted meanwhile',
  begin: async fleet => {
    await one(fleet).kill()
    await fleet.untilDown()
    const elsewhere = await EtcdMember.beside(one(fleet))
    const store = await openEtcd([elsewhere.url])
    for (let n = 0; n < 3; n++) await write(store, put(`${keysOf('main').root}unknown`, `${n}`))
    await store.close()
    await fleet.etcd.compact(elsewhere)
    await elsewhere.kill()
  },
  end: startAgain,
}

const leaderless: Outage = {
  what: 'without a leader',
  begin: ({ etcd }) => Promise.all(etcd.members.slice(0, 2).map(member => member.kill())),
  end: async ({ etcd }) => {
    const two = etcd.members.slice(0, 2)
    for (const member of two) member.start()
    await Promise.all(two.map(member => member.healthy()))
  },
}

function parted(network: Network): Outage[] {
  const lost = { begin: () => network.lose(), end: () => network.loseNoMore() }
  return [
    { what: 'parted in silence', ...lost },
    { what: 'parted for a moment', ...lost, durationMs: seconds(0.2, 5) },
    { what: 'cable pulled', begin: () => network.part(), end: () => network.join() },
  ]
}

async function measure(fleet: Fleet, outage: Outage): Promise<number> {
  await outage.begin(fleet)
  if (outage.durationMs) await pause(systemTimers, outage.durationMs())
  else {
    await fleet.untilDown()
    await pause(systemTimers, seconds(2, 8)())
  }
  await outage.end(fleet)
  const takenMs = await fleet.converged(primary)
  await pause(systemTimers, seconds(1, 3)())
  return takenMs
}

async function run(turns: number, words: string[], options: EtcdOptions, outages: Outage[]): Promise<void> {
  const wanted = outages.filter(({ what }) => words.length === 0 || words.some(word => what.includes(word)))
  if (wanted.length === 0) return
  const fleet = await Fleet.start({ replicas: 1, etcd: options })
  try {
    for (const outage of wanted) {
      const taken: number[] = []
      for (let turn = 0; turn < turns; turn++) taken.push(await measure(fleet, outage))
      taken.sort((a, b) => a - b)
      const cells = [0, 0.5, 1].map(share => String(percentile(taken, share)).padStart(8))
      console.log(`${outage.what.padEnd(24)}${cells.join('')}   ${taken.join(' ')}`)
    }
  } finally {
    await fleet.stop()
  }
}

async function main(): Promise<void> {
  const [turns = '10', ...words] = process.argv.slice(2)
  console.log(`${'ms'.padEnd(24)}   least     p50    most`)
  await run(Number(turns), words, { quotaBytes }, [killed, stopped, full, compacted])
  await run(Number(turns), words, { size: 3 }, [leaderless])
  const network = await Network.make()
  try {
    await run(Number(turns), words, { network }, parted(network))
  } finally {
    await network.remove()
  }
}

await main()
