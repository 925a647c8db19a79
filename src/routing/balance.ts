import type { Random } from '../runtime/random.ts'
import type { TopologyNode } from '../topology/types.ts'
import { NodeLoad } from './node-load.ts'
import { fillShares, newShare, type Share } from './shares.ts'

export interface BalanceOptions {
  random: Random
  /** Zone of this process; empty for none. */
  zone: () => string
  /** How long a node that comes back takes to get its whole share, ms; 0: at once. */
  slowStartMs: () => number
  /** Most nodes that may be out at once, of all that could serve, 0..100; 0: none is ever ejected. */
  ejectionMaxPercent: () => number
  /** Spreads equals differently in every process. */
  firstTurn: number
}

/** What `review` has decided: a sentence for the log. */
export interface BalanceChange {
  node: string
  kind: 'ejected' | 'admitted'
  why: string
}

/** A node is out after so many failures in a row. */
const failuresMax = 5
/** It is out when its answers take so many times longer, against what is usual, than those of the others. */
const slowerMax = 3
/** Answers that say something. */
const samplesMin = 10
/** Below this nothing is slow enough to matter. */
const slowMsMin = 2
/** Clients are asked to leave when a node has so much more than its share; a part of them at once. */
const surplusMin = 0.2
/** Of the most lag that a node may have: whoever had more comes back below that. */
const lagReturn = 0.7
const leavingPart = 0.25

/**
 * Spreads the clients of one process over the nodes that qualify. Owns no clock and does nothing by itself.
 *
 * A node's share follows from its weight, how slow it was lately, what its agent reports of its load, how long it is
 * back, and its zone: `fillShares`. Of two nodes, drawn by their shares, a client goes to that which has the fewer
 * clients for its share: processes that know nothing of each other do not all run to the same one. Where it is it
 * stays, so that its reads do not go back in time, until the node has too many or is out: `mayStay`.
 *
 * `review` is to be called a few times a second. It decides all that takes more than a look; in between nothing is
 * computed for a client that stays.
 */
export class Balance {
  readonly #options: BalanceOptions
  readonly #loads = new Map<string, NodeLoad>()
  readonly #shares = new Map<string, Share>()
  /** Those that reads may go to now. */
  #candidates: readonly TopologyNode[] = []
  #nodes: readonly TopologyNode[] = []
  /** Of these, who has come back from too much lag and might soon be out again. */
  readonly #behind = new Set<string>()
  #lagBytesMax = Number.POSITIVE_INFINITY
  #turn: number

  constructor(options: BalanceOptions) {
    this.#options = options
    this.#turn = options.firstTurn
  }

  load(name: string): NodeLoad {
    let load = this.#loads.get(name)
    if (!load) {
      load = new NodeLoad()
      this.#loads.set(name, load)
    }
    return load
  }

  share(name: string): Readonly<Share> | undefined {
    return this.#shares.get(name)
  }

  get candidates(): readonly TopologyNode[] {
    return this.#candidates
  }

  /** Takes a new snapshot: all nodes, and which of them reads may go to, for they lag no more than `lagBytesMax`. */
  setNodes(
    nodes: readonly TopologyNode[],
    candidates: readonly TopologyNode[],
    nowMs: number,
    lagBytesMax = Number.POSITIVE_INFINITY,
  ): void {
    this.#lagBytesMax = lagBytesMax
    const before = this.#candidates.length
    const added = candidates.filter(({ name }) => !this.#shares.has(name))
    this.#nodes = nodes
    this.#candidates = candidates
    // Whoever is the first to serve has no one to be spared by.
    if (before > 0) for (const node of added) this.#takeIn(node, nowMs)
    // Figures change all the time, and can wait for the next review.
    if (added.length > 0 || candidates.length !== before) this.#weigh(nowMs)
  }

  /** Looks at what was seen since the last time: who is out, who comes back, who has too many clients. */
  review(nowMs: number): BalanceChange[] {
    for (const { name } of this.#candidates) this.load(name).endPeriod()
    const admitted = this.#admit(nowMs)
    this.#weigh(nowMs)
    const ejected = this.#eject(nowMs)
    if (ejected.length > 0) this.#weigh(nowMs)
    this.#askToLeave()
    this.#forget()
    return [...admitted, ...ejected]
  }

  /** Where the lag keeps a node out it comes back when that is well below the limit, lest it goes in and out. */
  #takeIn(node: TopologyNode, nowMs: number): void {
    this.load(node.name).admit(nowMs)
    if (this.#lags(node)) this.#behind.add(node.name)
    else this.#behind.delete(node.name)
  }

  #lags({ lagBytes = 0 }: TopologyNode): boolean {
    return lagBytes > this.#lagBytesMax * lagReturn
  }

  /** Why a candidate has no share for the time being. */
  whyWaiting(name: string): string | undefined {
    const { isEjected, why } = this.load(name)
    if (isEjected) return `gets no reads for a while: ${why}`
    if (!this.#behind.has(name)) return undefined
    return `gets reads again when its lag is below ${Math.round(lagReturn * 100)} % of the limit`
  }

  #forget(): void {
    if (this.#loads.size <= this.#nodes.length) return
    const known = new Set(this.#nodes.map(({ name }) => name))
    for (const name of this.#loads.keys()) if (!known.has(name)) this.#loads.delete(name)
  }

  #admit(nowMs: number): BalanceChange[] {
    const changes: BalanceChange[] = []
    for (const node of this.#candidates) {
      const { name } = node
      const load = this.load(name)
      load.forgive(nowMs)
      if (this.#behind.has(name) && !this.#lags(node)) this.#takeIn(node, nowMs)
      if (!load.isEjected || nowMs < load.ejectedUntilMs) continue
      load.admit(nowMs)
      changes.push({ node: name, kind: 'admitted', why: `${name} gets reads again, a few at first` })
    }
    return changes
  }

  #eject(nowMs: number): BalanceChange[] {
    const { ejectionMaxPercent, random } = this.#options
    const count = this.#candidates.length
    const outMax = Math.min(count - 1, Math.floor((count * ejectionMaxPercent()) / 100))
    const here = this.#candidates.filter(({ name }) => !this.load(name).isEjected)
    const room = outMax - (count - here.length)
    if (room <= 0) return []
    const worst = here
      .map(node => ({ node, load: this.load(node.name), why: this.#whyOut(node, here) }))
      .filter(({ why }) => why !== undefined)
      .sort((a, b) => b.load.failures - a.load.failures || b.load.slowdown - a.load.slowdown)
    return worst.slice(0, room).map(({ node, load, why }) => {
      load.eject(why!, random.next(), nowMs)
      return { node: node.name, kind: 'ejected', why: why! }
    })
  }

  /** Compared with its own zone only: the way to another one takes its time, and is nobody's fault. */
  #whyOut(node: TopologyNode, here: readonly TopologyNode[]): string | undefined {
    const load = this.load(node.name)
    if (load.failures >= failuresMax) return `${load.failures} requests in a row failed at ${node.name}`
    const isSlow = load.latencyMs >= slowMsMin && (this.#shares.get(node.name)?.speed ?? 1) < 1
    if (load.samples < samplesMin || !isSlow) return undefined
    const others: number[] = []
    for (const other of here) {
      if (other === node || other.zone !== node.zone) continue
      const { samples, slowdown } = this.load(other.name)
      if (samples >= samplesMin) others.push(slowdown)
    }
    const usual = others.sort((a, b) => a - b)[(others.length - 1) >> 1]
    if (usual === undefined) return undefined
    const times = load.slowdown / usual
    // It was, and still is: one that has only been held up for a moment is left alone.
    if (times <= slowerMax || (load.recent ?? 0) <= usual * slowerMax) return undefined
    const ms = Math.round(load.latencyMs * 10) / 10
    return `${node.name} takes ${times.toFixed(1)} times as long as the others do (${ms} ms on average)`
  }

  #weigh(nowMs: number): void {
    const { slowStartMs, zone } = this.#options
    const known = new Set(this.#candidates.map(({ name }) => name))
    for (const name of this.#shares.keys()) if (!known.has(name)) this.#shares.delete(name)
    const shares = this.#candidates.map(node => {
      let share = this.#shares.get(node.name)
      if (!share) {
        share = newShare()
        this.#shares.set(node.name, share)
      }
      return share
    })
    const loads = this.#candidates.map(({ name }) => this.load(name))
    const ramps = this.#candidates.map(({ name }, at) =>
      this.#behind.has(name) ? 0 : loads[at]!.ramp(slowStartMs(), nowMs),
    )
    fillShares({ nodes: this.#candidates, loads, ramps, all: this.#nodes, zone: zone() }, shares)
  }

  #askToLeave(): void {
    let total = 0
    for (const { name } of this.#candidates) total += this.load(name).clients
    for (const { name } of this.#candidates) {
      const share = this.#shares.get(name)!
      const load = this.load(name)
      const fair = total * share.value
      const surplus = load.clients - fair
      if (load.isEjected) share.leaving = Number.POSITIVE_INFINITY
      else if (surplus >= 1 && surplus >= fair * surplusMin) share.leaving = Math.ceil(surplus * leavingPart)
      else share.leaving = 0
    }
  }

  /** Whether a client that is at home on this node should stay there with what it asks next. Costs a look. */
  mayStay(home: string): boolean {
    const share = this.#shares.get(home)
    return share === undefined || share.leaving === 0
  }

  /**
   * A node for a client, of those that qualify; undefined when there is none. `home` is where it was at last, if that
   * is among them: it is left only for one that is better off. The client counts there from now on.
   */
  choose(nodes: readonly TopologyNode[], home: TopologyNode | undefined): TopologyNode | undefined {
    if (home && this.mayStay(home.name)) return home
    const better = nodes.filter(({ name }) => name !== home?.name && this.#valueOf(name) > 0)
    const chosen = this.#ofTwo(better)
    if (home) {
      const share = this.#shares.get(home.name)!
      share.leaving--
      const isOut = this.load(home.name).isEjected
      if (!chosen || (!isOut && this.#crowd(chosen, 1) >= this.#crowd(home, 0))) return home
      this.load(home.name).clients--
    }
    // All that is left is out, or far: better than nothing.
    const taken = chosen ?? this.#ofTwo(nodes)
    if (taken) this.load(taken.name).clients++
    return taken
  }

  /** One of these nodes by chance, each as likely as its share, but not `name`; undefined when no other has a share. */
  besides(nodes: readonly TopologyNode[], name: string): TopologyNode | undefined {
    const others = nodes.filter(each => each.name !== name && this.#valueOf(each.name) > 0)
    return others[this.#draw(others, -1)]
  }

  /** A client is at work at another node from now on. */
  moved(from: string, to: string): void {
    this.left(from)
    this.load(to).clients++
  }

  /** A client that was at work there has gone. */
  left(name: string): void {
    const load = this.#loads.get(name)
    if (load && load.clients > 0) load.clients--
  }

  #valueOf(name: string): number {
    return this.#shares.get(name)?.value ?? 0
  }

  /** Clients for its share, with `more` of them. */
  #crowd({ name, weight }: TopologyNode, more: number): number {
    const clients = this.load(name).clients + more
    return clients / (this.#valueOf(name) || weight * Number.EPSILON || Number.MIN_VALUE)
  }

  #ofTwo(nodes: readonly TopologyNode[]): TopologyNode | undefined {
    if (nodes.length < 2) return nodes[0]
    const one = this.#draw(nodes, -1)
    const other = this.#draw(nodes, one)
    // Equals take turns.
    const [first, second] = one < other === (this.#turn++ % 2 === 0) ? [one, other] : [other, one]
    return this.#crowd(nodes[second]!, 1) < this.#crowd(nodes[first]!, 1) ? nodes[second] : nodes[first]
  }

  /** One by chance, each as likely as its share; not that at `without`. */
  #draw(nodes: readonly TopologyNode[], without: number): number {
    let total = 0
    for (let at = 0; at < nodes.length; at++) if (at !== without) total += this.#chanceOf(nodes[at]!)
    let rest = this.#options.random.next() * total
    let last = -1
    for (let at = 0; at < nodes.length; at++) {
      if (at === without) continue
      last = at
      rest -= this.#chanceOf(nodes[at]!)
      if (rest < 0) break
    }
    return last
  }

  #chanceOf({ name, weight }: TopologyNode): number {
    return this.#valueOf(name) || weight * Number.EPSILON || Number.MIN_VALUE
  }
}
