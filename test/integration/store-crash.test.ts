import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemRandom } from '../../src/runtime/random.ts'
import { rejects } from '../support/store-conformance.ts'
import { Collector, openEmbedded, openRemote, put, serveStore, write } from '../support/stores.ts'
import { until } from '../support/wait.ts'

const writerPath = fileURLToPath(new URL('../support/store-writer.js', import.meta.url))

describe('embedded store in a file, through crashes', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pgherd-store-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  it('killed with -9 in the middle of writes, again and again: all that was acknowledged is there', async () => {
    const acknowledged = new Map<string, number>()
    let revision = 0
    for (let round = 0; round < 15; round++) {
      const writer = new Writer(spawn(process.execPath, [writerPath, folder]))
      const enough = 100 + Math.floor(systemRandom.next() * 1_500)
      await until('some writes', () => writer.lines.length > enough, 20_000)
      await writer.kill()
      for (const line of writer.lines) {
        const [key = '', n = '', at = ''] = line.split(' ')
        assert.ok(Number(n) > (acknowledged.get(key) ?? 0), 'a write was acknowledged twice')
        acknowledged.set(key, Number(n))
        revision = Math.max(revision, Number(at))
      }
      const store = await openEmbedded(folder)
      assert.ok((await store.get('/w0')).revision >= revision)
      for (const [key, n] of acknowledged) {
        const { entry } = await store.get(key)
        const kept = Number(entry?.value.split(' ')[0])
        assert.ok(kept >= n, `${key}: ${n} was acknowledged, ${kept} is there`)
        const twin = await store.get(`${key}/twin`)
        assert.equal(twin.entry?.value, entry?.value, 'half of a transaction is there')
        assert.equal(twin.entry?.modRevision, entry?.modRevision)
        // What was not acknowledged may be there all the same.
        acknowledged.set(key, kept)
      }
      await store.close()
    }
    // Several times as much was written: compacted on the way.
    const { size } = await stat(join(folder, 'store.log'))
    assert.ok(size < 16 * 1024 * 1024, `${size} bytes`)
  })

  it('a disk that is full: an error, nothing of the write is there, and everything before it is', async () => {
    // The limit on the size of a file stands in for the disk.
    const command = `ulimit -f 2048; exec "$0" "$@"`
    const writer = new Writer(spawn('bash', ['-c', command, process.execPath, writerPath, folder, '20000']))
    await writer.ended
    const last = writer.lines.at(-1) ?? ''
    assert.match(last, /^refused full \d+$/)
    const store = await openEmbedded(folder)
    const revisions = writer.lines.slice(0, -1).map(line => Number(line.split(' ')[2]))
    assert.equal((await store.get('/w0')).revision, Number(last.split(' ')[2]))
    assert.equal(Math.max(...revisions), Number(last.split(' ')[2]))
    await write(store, put('/after', '1'))
    await store.close()
  })

  it('goes on after a restart: revisions grow, history and leases are still there', async () => {
    const first = await openEmbedded(folder)
    const lease = await first.grantLease(1_000)
    const from = await write(first, put('/a', '1'), put('/leased', '1', lease.id))
    await write(first, { kind: 'delete', key: '/a' })
    const before = await first.list('/')
    await first.close()
    await rejects(first.get('/a'), 'closed')

    const second = await openEmbedded(folder)
    assert.deepEqual(await second.list('/'), before)
    const watch = new Collector(second, '/', from)
    const next = await write(second, put('/b', '1'))
    assert.equal(next, before.revision + 1)
    await watch.reaches(next)
    assert.deepEqual(
      watch.steps.map(step => step.events.map(event => `${event.kind} ${event.entry.key}`)),
      [['put /a', 'put /leased'], ['delete /a'], ['put /b']],
    )
    assert.equal((await second.get('/leased')).entry?.leaseId, lease.id)
    // Its owner is gone: it ends after one more lifetime.
    await watch.reaches(next + 1)
    assert.equal((await second.get('/leased')).entry, undefined)
    await second.close()
  })

  it('is open in one process only, and a dead owner does not count', async () => {
    const writer = new Writer(spawn(process.execPath, [writerPath, folder]))
    await until('the writer to have it', () => writer.lines.length > 0)
    await assert.rejects(openEmbedded(folder), {
      code: 'locked',
      message: new RegExp(`process ${writer.pid}`),
    })
    await writer.kill()
    const store = await openEmbedded(folder)
    await assert.rejects(openEmbedded(folder), {
      code: 'locked',
      message: new RegExp(`process ${process.pid}`),
    })
    await store.close()
    // This process is alive, but it is not the one that began then.
    await writeFile(join(folder, 'lock'), `${process.pid} 1\n`)
    await (await openEmbedded(folder)).close()
    await assert.rejects(readFile(join(folder, 'lock')), { code: 'ENOENT' })
  })

  it('over HTTP: a watch goes on, and a lease is kept, through a restart of the process that has it', async () => {
    let embedded = await openEmbedded(folder)
    let server = await serveStore(embedded)
    const client = openRemote(server.url)
    const lease = await client.grantLease(3_000)
    const first = await write(client, put('/a', '1', lease.id))
    const watch = new Collector(client, '/', first)
    await watch.reaches(first)
    await server.close()
    await embedded.close()
    await rejects(client.get('/a'), 'unavailable')
    assert.equal(client.connection.up, false)
    embedded = await openEmbedded(folder)
    const second = await write(embedded, put('/b', '1'))
    server = await serveStore(embedded, server.port)
    await watch.reaches(second)
    assert.equal(client.connection.up, true)
    assert.deepEqual(
      watch.steps.map(step => step.revision),
      [first, second],
    )
    await lease.revoke()
    await watch.reaches(second + 1)
    await client.close()
    await server.close()
    await embedded.close()
  })
})

/** The lines of a writer process. */
class Writer {
  readonly lines: string[] = []
  readonly pid: number | undefined
  readonly ended: Promise<unknown>
  private readonly child: ChildProcess
  private rest = ''

  constructor(child: ChildProcess) {
    this.child = child
    this.pid = child.pid
    this.ended = once(child, 'close')
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.rest + text).split('\n')
      this.rest = lines.pop() ?? ''
      this.lines.push(...lines)
    })
    child.stderr?.on('data', chunk => this.lines.push(`error ${chunk}`))
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL')
    await this.ended
  }
}
