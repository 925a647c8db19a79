import { Balance } from '../../src/routing/balance.ts'
import { Typical } from '../../src/routing/typical.ts'
import { type Random, seededRandom } from '../../src/runtime/random.ts'
import type { TopologyNode } from '../../src/topology/types.ts'

/** A server of the simulation: so many requests at once, the others wait in order. */
export interface SimulatedServer {
  node: TopologyNode
  /** Mean of the exponential service time at a moment, ms; `undefined`: it does not answer. */
  serviceMs: (nowMs: number) => number
  slots: number
}

export type Policy = 'balance' | 'round-robin' | 'least-connections'

export interface SimulationOptions {
  servers: readonly SimulatedServer[]
  policy: Policy
  /** Processes that know nothing of each other. */
  workers: number
  clientsPerWorker: number
  forMs: number
  /** Latencies and counts are those after this. */
  fromMs: number
  seed: number
}

export interface SimulationResult {
  /** Sorted, ms. */
  latencies: Float64Array
  perSecond: number
  /** Part of all requests that each server has answered. */
  parts: number[]
  /** Clients at home on each server, every 250 ms. */
  homes: number[][]
  /** How often clients have changed their home. */
  moves: number
}

interface SimulatedClient {
  worker: Worker
  home: number
  beganMs: number
}

interface Worker {
  balance: Balance
  typical: Typical
}

const reviewMs = 250

/**
 * Clients that ask, wait for the answer, and ask again, in time of its own: no clock is read and nothing sleeps. With
 * `balance` they go where `Balance` sends them; with the other policies they stay where they were sent when they
 * connected, as behind a balancer of connections.
 */
export function simulate(options: SimulationOptions): SimulationResult {
  const random = seededRandom(options.seed)
  const nodes = options.servers.map(({ node }) => node)
  const workers = Array.from({ length: options.workers }, (_, at) => newWorker(nodes, random, at))
  const queues = options.servers.map(() => ({ busy: 0, waiting: [] as SimulatedClient[] }))
  const events = new Events()
  const latencies: number[] = []
  const counts = nodes.map(() => 0)
  const homes: number[][] = []
  let moves = 0

  const serve = (client: SimulatedClient, nowMs: number): void => {
    const at = client.home
    queues[at]!.busy++
    const ms = -Math.log(1 - random.next()) * options.servers[at]!.serviceMs(nowMs)
    events.add(nowMs + ms, endMs => finish(client, at, endMs))
  }
  const ask = (client: SimulatedClient, nowMs: number): void => {
    const { balance } = client.worker
    if (options.policy === 'balance' && !balance.mayStay(nodes[client.home]!.name)) {
      const chosen = nodes.indexOf(balance.choose(nodes, nodes[client.home])!)
      if (chosen !== client.home) moves++
      client.home = chosen
    }
    client.beganMs = nowMs
    const queue = queues[client.home]!
    if (queue.busy < options.servers[client.home]!.slots) serve(client, nowMs)
    else queue.waiting.push(client)
  }
  const finish = (client: SimulatedClient, at: number, nowMs: number): void => {
    const ms = nowMs - client.beganMs
    client.worker.balance.load(nodes[at]!.name).observe(ms, client.worker.typical.relate(ms), nowMs)
    if (nowMs >= options.fromMs) {
      latencies.push(ms)
      counts[at]!++
    }
    queues[at]!.busy--
    const next = queues[at]!.waiting.shift()
    if (next) serve(next, nowMs)
    ask(client, nowMs)
  }

  const clients = connect(options, workers, nodes)
  for (const client of clients) events.add(random.next(), nowMs => ask(client, nowMs))
  workers.forEach((worker, at) => {
    const review = (nowMs: number): void => {
      const own = clients.filter(client => client.worker === worker)
      nodes.forEach(({ name }, index) => {
        worker.balance.load(name).clients = own.filter(({ home }) => home === index).length
      })
      worker.balance.review(nowMs)
      if (at === 0) homes.push(nodes.map((_, index) => clients.filter(({ home }) => home === index).length))
      events.add(nowMs + reviewMs, review)
    }
    events.add(random.next() * reviewMs, review)
  })
  events.run(options.forMs)
  return {
    latencies: Float64Array.from(latencies).sort(),
    perSecond: (latencies.length * 1000) / (options.forMs - options.fromMs),
    parts: counts.map(count => count / latencies.length),
    homes,
    moves,
  }
}

function newWorker(nodes: readonly TopologyNode[], random: Random, index: number): Worker {
  const balance = new Balance({
    random,
    zone: () => '',
    slowStartMs: () => 10_000,
    ejectionMaxPercent: () => 50,
    firstTurn: index,
  })
  balance.setNodes(nodes, nodes, 0)
  return { balance, typical: new Typical() }
}

/** One after the other, by the policy: equal numbers with each of them as long as nothing is known. */
function connect(
  { clientsPerWorker, policy }: SimulationOptions,
  workers: readonly Worker[],
  nodes: readonly TopologyNode[],
): SimulatedClient[] {
  const clients: SimulatedClient[] = []
  const counts = nodes.map(() => 0)
  for (let turn = 0; turn < clientsPerWorker; turn++) {
    for (const worker of workers) {
      let home = clients.length % nodes.length
      if (policy === 'least-connections') home = counts.indexOf(Math.min(...counts))
      if (policy === 'balance') home = nodes.indexOf(worker.balance.choose(nodes, undefined)!)
      counts[home]!++
      clients.push({ worker, home, beganMs: 0 })
    }
  }
  return clients
}

/** What happens when, in order. */
class Events {
  readonly #heap: { atMs: number; run: (nowMs: number) => void }[] = []

  add(atMs: number, run: (nowMs: number) => void): void {
    const heap = this.#heap
    let at = heap.length
    heap.push({ atMs, run })
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (heap[parent]!.atMs <= heap[at]!.atMs) break
      this.#swap(at, parent)
      at = parent
    }
  }

  /** Until `untilMs`. */
  run(untilMs: number): void {
    let next = this.#take()
    while (next && next.atMs < untilMs) {
      next.run(next.atMs)
      next = this.#take()
    }
  }

  #take(): { atMs: number; run: (nowMs: number) => void } | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (heap.length === 0 || !last) return first
    heap[0] = last
    let at = 0
    for (;;) {
      const left = 2 * at + 1
      const least = left + 1 < heap.length && heap[left + 1]!.atMs < heap[left]!.atMs ? left + 1 : left
      if (least >= heap.length || heap[at]!.atMs <= heap[least]!.atMs) return first
      this.#swap(at, least)
      at = least
    }
  }

  #swap(a: number, b: number): void {
    const one = this.#heap[a]!
    this.#heap[a] = this.#heap[b]!
    this.#heap[b] = one
  }
}
