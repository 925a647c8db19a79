import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/log.ts'
import { systemRandom } from '../../src/runtime/random.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import { type EmbeddedStore, openEmbeddedStore } from '../../src/store/embedded.ts'
import { type EtcdStoreOptions, openEtcdStore } from '../../src/store/etcd.ts'
import { type Mirror, mirror } from '../../src/store/mirror.ts'
import { openRemoteStore } from '../../src/store/remote.ts'
import { createStoreHandler } from '../../src/store/serve.ts'
import type { Entry, Store, WatchEvent } from '../../src/store/store.ts'
import { until } from './wait.ts'

/** What every store takes, with the real clock and a silent log. */
export const realWorld = {
  clock: systemClock,
  timers: systemTimers,
  random: systemRandom,
  log: silentLogger,
}

export function openEmbedded(path?: string, historyMax?: number): Promise<EmbeddedStore> {
  return openEmbeddedStore({ ...realWorld, path, ...(historyMax === undefined ? {} : { historyMax }) })
}

export function openEtcd(endpoints: string[], options: Partial<EtcdStoreOptions> = {}): Promise<Store> {
  return openEtcdStore({ ...realWorld, endpoints, requestTimeoutMs: 5_000, ...options })
}

export function openRemote(url: string): Store {
  return openRemoteStore({ ...realWorld, url })
}

/** An HTTP server on 127.0.0.1 that offers `store`, on a free port unless said. */
export async function serveStore(
  store: EmbeddedStore,
  port = 0,
): Promise<{ url: string; port: number; close(): Promise<void> }> {
  const handler = createStoreHandler(store, realWorld)
  const server: Server = createServer((request, response) => {
    if (!handler.handle(request, response)) response.writeHead(404).end()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  const actual = (server.address() as AddressInfo).port
  const close = async (): Promise<void> => {
    handler.close()
    const closed = new Promise(resolve => server.close(resolve))
    server.closeAllConnections()
    await closed
  }
  return { url: `http://127.0.0.1:${actual}`, port: actual, close }
}

/** Collects what a watch delivers. */
export class Collector {
  readonly steps: { revision: number; events: WatchEvent[] }[] = []
  compactRevision: number | undefined
  private readonly watch: { close(): void }

  constructor(store: Store, prefix: string, fromRevision: number) {
    this.watch = store.watch(prefix, fromRevision, {
      onEvents: (events, revision) => this.steps.push({ revision, events }),
      onCompacted: revision => {
        this.compactRevision = revision
      },
    })
  }

  async reaches(revision: number, limitMs?: number): Promise<void> {
    await until(
      `the watch to reach revision ${revision}`,
      () => (this.lastRevision >= revision ? true : undefined),
      limitMs,
    )
  }

  get lastRevision(): number {
    return this.steps.at(-1)?.revision ?? 0
  }

  close(): void {
    this.watch.close()
  }
}

/** A mirror and what it last said. */
export function follow(
  store: Store,
  prefix: string,
): { mirror: Mirror; view: () => Record<string, string>; calls: number[] } {
  let last: ReadonlyMap<string, Entry> = new Map()
  const calls: number[] = []
  const following = mirror(store, prefix, {
    ...realWorld,
    onChange(entries, revision) {
      last = entries
      calls.push(revision)
    },
  })
  return {
    mirror: following,
    calls,
    view: () => Object.fromEntries([...last.values()].map(({ key, value }) => [key, value])),
  }
}

export function put(
  key: string,
  value: string,
  leaseId?: string,
): { kind: 'put'; key: string; value: string; leaseId?: string } {
  return leaseId === undefined ? { kind: 'put', key, value } : { kind: 'put', key, value, leaseId }
}

/** Writes without a comparison and gives back the revision. */
export async function write(
  store: Store,
  ...writes: Parameters<Store['transact']>[0]['writes']
): Promise<number> {
  const { revision } = await store.transact({ compares: [], writes })
  return revision
}
