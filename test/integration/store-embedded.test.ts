import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EmbeddedStore } from '../../src/store/embedded.ts'
import { type StoreFixture, testStore } from '../support/store-conformance.ts'
import { openEmbedded, openRemote, put, serveStore, write } from '../support/stores.ts'

const historyMax = 500

testStore('embedded store in memory', {}, async () => fixtureOf(await openEmbedded(undefined, historyMax)))

testStore('embedded store in a file', {}, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'pgherd-store-'))
  const fixture = fixtureOf(await openEmbedded(folder, historyMax))
  const close = async (): Promise<void> => {
    await fixture.close()
    await rm(folder, { recursive: true })
  }
  return { ...fixture, close }
})

testStore('embedded store over HTTP', {}, async () => {
  const embedded = await openEmbedded(undefined, historyMax)
  const server = await serveStore(embedded)
  const store = openRemote(server.url)
  const close = async (): Promise<void> => {
    await store.close()
    await server.close()
    await embedded.close()
  }
  const orphanLease = async (ttlMs: number): Promise<string> => {
    const client = openRemote(server.url)
    const { id } = await client.grantLease(ttlMs)
    await client.close()
    return id
  }
  return { ...fixtureOf(embedded), store, other: async () => openRemote(server.url), orphanLease, close }
})

function fixtureOf(store: EmbeddedStore): StoreFixture {
  return {
    store,
    other: () => Promise.resolve(store),
    orphanLease: async ttlMs => (await store.leases.grant(ttlMs)).id,
    // There is no compaction to ask for: history is bounded by its length.
    async compact() {
      for (let n = 0; n < historyMax * 2; n++) await write(store, put('/filler', String(n)))
    },
    close: () => store.close(),
  }
}
