import {
  type Connection,
  type Lease,
  type Store,
  StoreError,
  type Transaction,
  type TransactionResult,
  type Watch,
  type WatchHandler,
} from '../../src/store/store.ts'

/**
 * A store that can be made unreachable and reachable again, in front of a real one: what a process sees when its
 * store is stopped and started. Leases of the real store live on meanwhile unless `loseLeases` is called.
 */
export class StoreSwitch implements Store {
  readonly kind: string
  readonly #store: Store
  readonly #listeners = new Set<(connection: Connection) => void>()
  readonly #leases: { lease: Lease; lose: () => void }[] = []
  #connection: Connection = { up: true, sinceMs: 0, reason: undefined }
  /** Reads and writes that were asked for, whether or not they came through. */
  reads = 0
  writes = 0

  constructor(store: Store) {
    this.#store = store
    this.kind = store.kind
  }

  get connection(): Connection {
    return this.#connection
  }

  set up(up: boolean) {
    this.#connection = { up, sinceMs: 0, reason: up ? undefined : 'switched off' }
    for (const listener of this.#listeners) listener(this.#connection)
  }

  /** Ends every lease that was granted through this switch, as an outage longer than their time does. */
  async loseLeases(): Promise<void> {
    for (const { lease, lose } of this.#leases.splice(0)) {
      await lease.revoke()
      lose()
    }
  }

  async get(key: string): ReturnType<Store['get']> {
    this.reads++
    this.#check()
    return this.#store.get(key)
  }

  async list(prefix: string): ReturnType<Store['list']> {
    this.#check()
    return this.#store.list(prefix)
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    this.writes++
    this.#check()
    return this.#store.transact(transaction)
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    this.#check()
    const lease = await this.#store.grantLease(ttlMs)
    let lose = (): void => {}
    const lost = new Promise<void>(resolve => {
      lose = resolve
    })
    void lease.lost.then(lose)
    this.#leases.push({ lease, lose })
    return { id: lease.id, ttlMs: lease.ttlMs, lost, revoke: () => lease.revoke() }
  }

  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch {
    return this.#store.watch(prefix, fromRevision, handler)
  }

  onConnection(listener: (connection: Connection) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Leaves the real store open: it is the test's. */
  close(): Promise<void> {
    return Promise.resolve()
  }

  #check(): void {
    if (!this.#connection.up) throw new StoreError('unavailable', 'the store is switched off')
  }
}
