import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { silentLogger } from '../runtime/log.ts'
import { openJournal, type RecoveredJournal } from './journal.ts'
import { type Change, StoreState } from './state.ts'

describe('journal', () => {
  let folder: string
  let file: string
  /** Two batches: one of a single change, one of two. */
  const batches: Change[][] = [[change(2)], [change(3), change(4)]]
  let content: Buffer
  /** Where the batches begin, and the end. */
  const bounds: number[] = []

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pgherd-journal-'))
    file = join(folder, 'store.log')
    const { journal } = await openJournal(folder, silentLogger)
    bounds.push((await readFile(file)).length)
    for (const batch of batches) {
      await journal.append(batch)
      bounds.push((await readFile(file)).length)
    }
    await journal.close()
    content = await readFile(file)
  })
  after(() => rm(folder, { recursive: true }))

  async function reopen(data: Buffer): Promise<RecoveredJournal> {
    await writeFile(file, data)
    const recovered = await openJournal(folder, silentLogger)
    await recovered.journal.close()
    return recovered
  }

  it('gives back what was appended', async () => {
    const { snapshot, changes } = await reopen(content)
    assert.deepEqual(snapshot, new StoreState().snapshot())
    assert.deepEqual(changes, batches.flat())
  })

  it('cut at any byte: whole changes stay, the torn one goes, and writing goes on from there', async () => {
    const [snapshotEnd = 0] = bounds
    for (let end = snapshotEnd; end <= content.length; end++) {
      const { changes } = await reopen(content.subarray(0, end))
      const lines = content.subarray(snapshotEnd, end).toString().split('\n').length - 1
      assert.deepEqual(changes, batches.flat().slice(0, lines))
      assert.equal((await readFile(file)).at(-1), 0x0a)
    }
    await writeFile(file, content.subarray(0, content.length - 1))
    const { journal } = await openJournal(folder, silentLogger)
    await journal.append([change(4)])
    await journal.close()
    assert.deepEqual((await reopen(await readFile(file))).changes, batches.flat())
  })

  it('a hole in the last batch, whose later part reached the disk first, is a torn tail', async () => {
    const [, first = 0] = bounds
    for (const fill of [0x00, 0x20, 0x0a]) {
      const torn = Buffer.from(content)
      torn.fill(fill, first + 5, first + 20)
      assert.deepEqual((await reopen(torn)).changes, batches[0])
    }
  })

  it('damage to any byte of what was acknowledged is an error', async () => {
    const [, first = 0] = bounds
    for (let at = 0; at < first; at++) {
      const damaged = Buffer.from(content)
      damaged[at] = (damaged[at] ?? 0) ^ 0x01
      await assert.rejects(
        reopen(damaged),
        { code: 'corrupt', message: /store\.log is damaged/ },
        `byte ${at}`,
      )
    }
    await assert.rejects(reopen(Buffer.alloc(0)), { code: 'corrupt' })
    await assert.rejects(
      reopen(Buffer.concat([content.subarray(0, bounds[0]), content.subarray(bounds[1])])),
      {
        code: 'corrupt',
      },
    )
  })

  it('compaction leaves the snapshot alone, with nothing beside it', async () => {
    await writeFile(file, content)
    const { journal, changes } = await openJournal(folder, silentLogger)
    const state = new StoreState()
    for (const made of changes) state.apply(made)
    await journal.compact(state.snapshot())
    await journal.append([change(5)])
    await journal.close()
    assert.deepEqual(await readdir(folder), ['store.log'])
    const recovered = await openJournal(folder, silentLogger)
    await recovered.journal.close()
    assert.deepEqual(recovered.snapshot, state.snapshot())
    assert.deepEqual(recovered.changes, [change(5)])
  })
})

function change(revision: number): Change {
  const entry = {
    key: 'k',
    value: `\u2028 ${revision}`,
    createRevision: 2,
    modRevision: revision,
    leaseId: undefined,
  }
  return { revision, events: [{ kind: 'put', entry }] }
}
