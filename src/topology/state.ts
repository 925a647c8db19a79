import { emptyFleet, type FleetReading, readFleet } from '../config/fleet.ts'
import { dotted } from '../config/keys.ts'
import type { Entry } from '../store/store.ts'
import {
  type Decoded,
  decodeLeader,
  decodeNodeIntent,
  decodeNodeStatus,
  decodeProxyStatus,
  decodeSettings,
} from './codec.ts'
import { fleetValues } from './fleet-settings.ts'
import type { Keys } from './keys.ts'
import type {
  FleetSettings,
  Leader,
  NodeFacts,
  NodeIntent,
  NodeStatus,
  Observation,
  ProxyStatus,
} from './types.ts'

/** A decoded value with the revisions it stood at. */
export interface Versioned<T> {
  value: T
  createRevision: number
  modRevision: number
}

/**
 * Everything known about a cluster, as a register per key in which the highest revision wins. Events may
 * arrive in any order and more than once: the same set of events always leaves the same state.
 */
export class ClusterState {
  readonly nodeIntents = new Map<string, Versioned<NodeIntent>>()
  /** Statuses whose lease lives. */
  readonly nodeStatuses = new Map<string, Versioned<NodeStatus>>()
  /** The newest status ever seen of a node, also after its lease has ended. */
  readonly lastStatuses = new Map<string, Versioned<NodeStatus>>()
  readonly proxyStatuses = new Map<string, Versioned<ProxyStatus>>()
  /** What this process saw by asking the servers itself. */
  readonly observations = new Map<string, Observation>()
  settings: Versioned<FleetSettings> | undefined
  /** What the settings say; another object whenever they were written. */
  fleet: FleetReading = emptyFleet
  leader: Versioned<Leader> | undefined
  revision = 0
  intentRevision = 0
  /** Sentences about values that cannot be read, by key. */
  readonly problems = new Map<string, string>()

  readonly #keys: Keys
  /** Revision of the newest event of each key, deletes included. */
  readonly #revisions = new Map<string, number>()
  /** What `nodeNames` answers, until a name comes or goes. */
  #names: readonly string[] | undefined

  constructor(keys: Keys) {
    this.#keys = keys
  }

  /** Whether that may change a decision; false when it is about figures, about a proxy, or old. */
  put(entry: Entry): boolean {
    const isNewest = this.#advance(entry.key, entry.modRevision)
    const statusName = after(entry.key, this.#keys.nodeStatuses)
    if (statusName !== undefined) return this.#putStatus(statusName, entry, isNewest)
    if (isNewest) this.#assign(entry.key, entry)
    return isNewest && !this.#isOfProxy(entry.key)
  }

  /** Whether that may change a decision. */
  delete(key: string, revision: number): boolean {
    if (!this.#advance(key, revision)) return false
    this.#assign(key, undefined)
    return !this.#isOfProxy(key)
  }

  /** Takes a complete listing: what it does not contain is gone. */
  replace(entries: Iterable<Entry>, revision: number): void {
    const listed = new Set<string>()
    for (const entry of entries) {
      listed.add(entry.key)
      this.put(entry)
    }
    for (const [key, keyRevision] of this.#revisions) {
      if (listed.has(key)) continue
      if (keyRevision <= revision && this.#has(key)) this.delete(key, revision)
    }
    this.revision = Math.max(this.revision, revision)
  }

  /** Whether that may change a decision. */
  observe(name: string, observation: Observation): boolean {
    const known = this.observations.get(name)
    if (known && known.seq >= observation.seq) return false
    this.observations.set(name, observation)
    if (!known || known.reachable !== observation.reachable) return true
    if (known.doubtedRevision !== observation.doubtedRevision) return true
    const [before, after] = [known.facts, observation.facts]
    return before === undefined || after === undefined || factsDecide(before, after)
  }

  /** Drops what was seen first hand, when the agent's word is good again. */
  unobserve(name: string): void {
    this.observations.delete(name)
  }

  /** Forgets a node that nobody declares and nobody reports any more. */
  forget(name: string): void {
    if (!this.nodeStatuses.has(name)) this.lastStatuses.delete(name)
    this.observations.delete(name)
    this.#names = undefined
  }

  /** Names of all nodes, declared or reported, sorted. */
  nodeNames(): readonly string[] {
    this.#names ??= [...new Set([...this.nodeIntents.keys(), ...this.lastStatuses.keys()])].sort()
    return this.#names
  }

  /** Whether an event of this revision is the newest of its key; remembers it when so. */
  #advance(key: string, revision: number): boolean {
    this.revision = Math.max(this.revision, revision)
    if (key.startsWith(this.#keys.intent)) this.intentRevision = Math.max(this.intentRevision, revision)
    // Nothing follows from what was changed when; and its keys, which come and go, would have to be remembered.
    if (key.startsWith(this.#keys.history)) return false
    if ((this.#revisions.get(key) ?? -1) >= revision) return false
    this.#revisions.set(key, revision)
    return true
  }

  #isOfProxy(key: string): boolean {
    return key.startsWith(this.#keys.proxyStatuses)
  }

  /** One that is not the newest of its key can still be the last that was said of the node. */
  #putStatus(name: string, entry: Entry, isNewest: boolean): boolean {
    const last = this.lastStatuses.get(name)
    const isLast = !last || last.modRevision < entry.modRevision
    if (!isNewest && !isLast) return false
    const { value, problem } = decodeNodeStatus(entry.value)
    const status = value && versioned(value, entry)
    if (isLast && status) {
      if (!last) this.#names = undefined
      this.lastStatuses.set(name, status)
    }
    if (!isNewest) return isLast
    const before = this.nodeStatuses.get(name)?.value
    this.problems.delete(entry.key)
    if (problem !== undefined) this.problems.set(entry.key, `${entry.key}: ${problem}`)
    if (status) this.nodeStatuses.set(name, status)
    else this.nodeStatuses.delete(name)
    return !before || !value || statusDecides(before, value)
  }

  #has(key: string): boolean {
    const name = (prefix: string): string => after(key, prefix) ?? ''
    return (
      this.nodeIntents.has(name(this.#keys.nodeIntents)) ||
      this.nodeStatuses.has(name(this.#keys.nodeStatuses)) ||
      this.proxyStatuses.has(name(this.#keys.proxyStatuses)) ||
      (key === this.#keys.settings && this.settings !== undefined) ||
      (key === this.#keys.leader && this.leader !== undefined) ||
      this.problems.has(key)
    )
  }

  #assign(key: string, entry: Entry | undefined): void {
    this.problems.delete(key)
    const keys = this.#keys
    const intentName = after(key, keys.nodeIntents)
    const statusName = after(key, keys.nodeStatuses)
    const proxyId = after(key, keys.proxyStatuses)
    if (intentName !== undefined) {
      this.#names = undefined
      this.#assignIn(this.nodeIntents, intentName, entry, decodeNodeIntent)
    } else if (statusName !== undefined) this.nodeStatuses.delete(statusName)
    else if (proxyId !== undefined) this.#assignIn(this.proxyStatuses, proxyId, entry, decodeProxyStatus)
    else if (key === keys.settings) this.#assignSettings(entry)
    else if (key === keys.leader) this.leader = this.#decode(entry, decodeLeader)
  }

  #assignSettings(entry: Entry | undefined): void {
    this.settings = this.#decode(entry, decodeSettings)
    this.fleet = this.settings ? readFleet(fleetValues(this.settings.value)) : emptyFleet
    const { findings } = this.fleet
    if (!entry || findings.length === 0) return
    const sentences = findings.map(({ path, message }) => `${dotted(path)} ${message}`)
    this.problems.set(entry.key, `settings of the fleet: ${sentences.join('; ')}`)
  }

  #assignIn<T>(
    map: Map<string, Versioned<T>>,
    name: string,
    entry: Entry | undefined,
    decode: (text: string) => Decoded<T>,
  ): void {
    const decoded = this.#decode(entry, decode)
    if (decoded) map.set(name, decoded)
    else map.delete(name)
  }

  #decode<T>(entry: Entry | undefined, decode: (text: string) => Decoded<T>): Versioned<T> | undefined {
    if (!entry) return undefined
    const { value, problem } = decode(entry.value)
    if (problem !== undefined) {
      this.problems.set(entry.key, `${entry.key}: ${problem}`)
      return undefined
    }
    return versioned(value, entry)
  }
}

/** Whether two reports of a node differ in what says at once what it may be used for, and not in figures alone. */
function statusDecides(before: NodeStatus, after: NodeStatus): boolean {
  return (
    before.accepting !== after.accepting ||
    before.host !== after.host ||
    before.port !== after.port ||
    before.zone !== after.zone ||
    factsDecide(before, after)
  )
}

function factsDecide(before: NodeFacts, after: NodeFacts): boolean {
  return (
    before.role !== after.role ||
    before.timeline !== after.timeline ||
    before.systemId !== after.systemId ||
    before.replicationState !== after.replicationState
  )
}

function versioned<T>(value: T, entry: Entry): Versioned<T> {
  return { value, createRevision: entry.createRevision, modRevision: entry.modRevision }
}

/** What follows `prefix` in `key`, or undefined when it does not start so. */
function after(key: string, prefix: string): string | undefined {
  return key.startsWith(prefix) ? key.slice(prefix.length) : undefined
}
