import { type Entry, StoreError, type Transaction, type WatchEvent } from './store.ts'

/**
 * One step of the embedded store's history, as it stands in the journal: what was written, and which lease began
 * or ended. A lease by itself does not count as a change of the contents: `revision` then stays what it was.
 */
export interface Change {
  revision: number
  events: WatchEvent[]
  leaseGranted?: { id: string; ttlMs: number }
  leaseEnded?: string
}

/** Everything the embedded store holds at one revision. */
export interface Snapshot {
  format: 1
  revision: number
  leases: { id: string; ttlMs: number }[]
  entries: Entry[]
}

interface StateLease {
  ttlMs: number
  keys: Set<string>
}

/** Keys and values together, in characters: a cluster's topology is far below this. */
const contentMax = 64 * 1024 * 1024

/**
 * The contents of the embedded store: a pure machine. `plan...` says what a request would change and changes
 * nothing; `apply` carries a change out.
 */
export class StoreState {
  /** As in etcd, an empty store stands at revision 1 and its first change is 2. */
  revision = 1
  private readonly entries = new Map<string, Entry>()
  private readonly leases = new Map<string, StateLease>()
  private content = 0

  static of(snapshot: Snapshot): StoreState {
    const state = new StoreState()
    state.revision = snapshot.revision
    for (const lease of snapshot.leases) state.leases.set(lease.id, { ttlMs: lease.ttlMs, keys: new Set() })
    for (const entry of snapshot.entries) state.put(entry)
    return state
  }

  snapshot(): Snapshot {
    return {
      format: 1,
      revision: this.revision,
      leases: [...this.leases].map(([id, { ttlMs }]) => ({ id, ttlMs })),
      entries: [...this.entries.values()],
    }
  }

  get(key: string): Entry | undefined {
    return this.entries.get(key)
  }

  list(prefix: string): Entry[] {
    const found: Entry[] = []
    for (const entry of this.entries.values()) if (entry.key.startsWith(prefix)) found.push(entry)
    return sortedByKey(found)
  }

  leaseTtlMs(id: string): number | undefined {
    return this.leases.get(id)?.ttlMs
  }

  leaseList(): { id: string; ttlMs: number }[] {
    return this.snapshot().leases
  }

  /**
   * The change that `transaction` makes, undefined when a compare does not hold. A change without events is one
   * that writes nothing (only deletes of what is not there).
   * @throws StoreError `lease_not_found`, `full`
   */
  plan(transaction: Transaction): Change | undefined {
    for (const { key, target, revision } of transaction.compares) {
      const entry = this.entries.get(key)
      const actual = target === 'created' ? entry?.createRevision : entry?.modRevision
      if ((actual ?? 0) !== revision) return undefined
    }
    const revision = this.revision + 1
    const events: WatchEvent[] = []
    let growth = 0
    for (const write of transaction.writes) {
      const before = this.entries.get(write.key)
      if (write.kind === 'delete') {
        if (before) events.push(deleteEvent(write.key, revision))
        continue
      }
      const { key, value, leaseId } = write
      if (leaseId !== undefined && !this.leases.has(leaseId)) throw leaseNotFound(leaseId)
      growth += key.length + value.length - (before ? before.key.length + before.value.length : 0)
      const createRevision = before?.createRevision ?? revision
      events.push({ kind: 'put', entry: { key, value, createRevision, modRevision: revision, leaseId } })
    }
    if (growth > 0 && this.content + growth > contentMax) throw contentFull()
    return { revision: events.length > 0 ? revision : this.revision, events }
  }

  planLeaseGrant(id: string, ttlMs: number): Change {
    return { revision: this.revision, events: [], leaseGranted: { id, ttlMs } }
  }

  /** The end of a lease deletes its keys in one revision; undefined when there is no such lease. */
  planLeaseEnd(id: string): Change | undefined {
    const lease = this.leases.get(id)
    if (!lease) return undefined
    const revision = this.revision + (lease.keys.size > 0 ? 1 : 0)
    const events = [...lease.keys].sort().map(key => deleteEvent(key, revision))
    return { revision, events, leaseEnded: id }
  }

  apply(change: Change): void {
    this.revision = change.revision
    for (const { kind, entry } of change.events) {
      if (kind === 'put') this.put(entry)
      else this.remove(entry.key)
    }
    const { leaseGranted, leaseEnded } = change
    if (leaseGranted) this.leases.set(leaseGranted.id, { ttlMs: leaseGranted.ttlMs, keys: new Set() })
    if (leaseEnded !== undefined) this.leases.delete(leaseEnded)
  }

  private put(entry: Entry): void {
    this.remove(entry.key)
    this.entries.set(entry.key, entry)
    this.content += entry.key.length + entry.value.length
    if (entry.leaseId !== undefined) this.leases.get(entry.leaseId)?.keys.add(entry.key)
  }

  private remove(key: string): void {
    const entry = this.entries.get(key)
    if (!entry) return
    this.entries.delete(key)
    this.content -= entry.key.length + entry.value.length
    if (entry.leaseId !== undefined) this.leases.get(entry.leaseId)?.keys.delete(key)
  }
}

function deleteEvent(key: string, revision: number): WatchEvent {
  return {
    kind: 'delete',
    entry: { key, value: '', createRevision: 0, modRevision: revision, leaseId: undefined },
  }
}

export function leaseNotFound(id: string): StoreError {
  return new StoreError('lease_not_found', `lease ${id} does not exist or has ended: ask for a new one`)
}

function contentFull(): StoreError {
  return new StoreError('full', `the embedded store holds ${contentMax} characters: delete keys or use etcd`)
}

/** In the order of the keys' UTF-8 bytes, which is etcd's. */
function sortedByKey(entries: Entry[]): Entry[] {
  return entries
    .map(entry => ({ entry, bytes: Buffer.from(entry.key) }))
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .map(({ entry }) => entry)
}
