import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { until } from '../../test/support/wait.ts'
import { Link, type LinkUser } from './link.ts'

/** What a link has told. */
class Listener implements LinkUser {
  readonly pieces: Buffer[] = []
  readonly told: string[] = []

  onData(chunk: Buffer): void {
    this.pieces.push(chunk)
  }
  onDrain(): void {
    this.told.push('drain')
  }
  onEnd(): void {
    this.told.push('end')
  }
  onError(): void {
    this.told.push('error')
  }
  onClose(): void {
    this.told.push('close')
  }

  get bytes(): Buffer {
    return Buffer.concat(this.pieces)
  }
}

let server: Server
let port: number
before(async () => {
  server = createServer({ allowHalfOpen: true, noDelay: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = (server.address() as { port: number }).port
})
const opened: Socket[] = []
after(() => {
  server.close()
  for (const socket of opened) socket.destroy()
})

async function open(): Promise<{ link: Link; told: Listener; peer: Socket }> {
  const peer = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const [socket] = (await once(server, 'connection')) as [Socket]
  opened.push(peer, socket)
  const told = new Listener()
  peer.on('error', () => undefined)
  return { link: new Link(socket, told), told, peer }
}

function pattern(bytes: number, seed: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(bytes)
  for (let at = 0; at < bytes; at++) buffer[at] = (at * 31 + (at >> 8) + seed) & 0xff
  return buffer
}

describe('Link', () => {
  test('what was read stays as it is, whatever comes behind it on this socket or another one', async () => {
    const [one, two] = [await open(), await open()]
    const sent: Buffer[] = []
    for (let round = 0; round < 20; round++) {
      const small = pattern(1 + round * 37, round)
      one.peer.write(small)
      two.peer.write(pattern(50, 255 - round))
      sent.push(small)
      const bytes = sent.reduce((sum, { length }) => sum + length, 0)
      await until('it has come', () => one.told.bytes.length === bytes)
    }
    assert.ok(one.told.pieces.length >= 20)
    assert.deepEqual(one.told.bytes, Buffer.concat(sent))
    one.link.destroy()
    two.link.destroy()
  })

  test('large pieces and small ones in turns', async () => {
    const { link, told, peer } = await open()
    const sent = [3_000_000, 5, 70_000, 1, 200_000, 40].map((bytes, at) => pattern(bytes, at))
    for (const each of sent) {
      if (!peer.write(each)) await once(peer, 'drain')
    }
    const all = Buffer.concat(sent)
    await until('it has come', () => told.bytes.length === all.length)
    assert.ok(all.equals(told.bytes))
    link.destroy()
  })

  test('a peer that does not read: false, what is unsent, and onDrain when it has left', async () => {
    const { link, told, peer } = await open()
    peer.pause()
    const piece = pattern(64 * 1024, 7)
    let pieces = 0
    while (link.write(piece)) pieces++
    assert.ok(link.needsDrain)
    assert.ok(link.unsentBytes > 0)
    link.write(piece)
    const received: Buffer[] = []
    peer.on('data', chunk => received.push(chunk)).resume()
    await until('it has left', () => told.told.includes('drain'))
    assert.equal(link.unsentBytes, 0)
    assert.equal(link.needsDrain, false)
    await until('it has arrived', () => Buffer.concat(received).length === (pieces + 2) * piece.length)
    const all = Buffer.concat(received)
    for (let at = 0; at < all.length; at += piece.length)
      assert.ok(all.subarray(at, at + piece.length).equals(piece))
    link.destroy()
  })

  test('paused it reads nothing, and afterwards everything', async () => {
    const { link, told, peer } = await open()
    peer.write('first')
    await until('it reads', () => told.bytes.length === 5)
    link.pause()
    link.pause()
    // More than the kernel keeps: some of it can only leave when it is read.
    const large = pattern(20_000_000, 1)
    const isFlushed = once(peer, 'drain')
    assert.equal(peer.write(large), false)
    await new Promise(resolve => setImmediate(resolve))
    assert.equal(told.bytes.length, 5)
    link.resume()
    await isFlushed
    await until('all has come', () => told.bytes.length === 5 + large.length)
    assert.ok(told.bytes.subarray(5).equals(large))
    link.destroy()
  })

  test('what has not left is kept, whatever the garbage collector does', async () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const { link, peer } = await open()
    peer.pause()
    const pieces = 200
    for (let piece = 0; piece < pieces; piece++) link.write(Buffer.alloc(64 * 1024, piece))
    const garbage: Buffer[] = []
    for (let round = 0; round < 20; round++) {
      collect()
      for (let each = 0; each < 50; each++) garbage.push(Buffer.alloc(64 * 1024, 0xff))
      garbage.length = 0
    }
    const received: Buffer[] = []
    peer.on('data', chunk => received.push(chunk)).resume()
    await until('all has come', () => Buffer.concat(received).length === pieces * 64 * 1024)
    const all = Buffer.concat(received)
    for (let at = 0; at < all.length; at += 1024) assert.equal(all[at], (at / 65536) & 0xff)
    link.destroy()
  })

  test('a peer that sends nothing more is still answered', async () => {
    const { link, told, peer } = await open()
    peer.end('last words')
    await until('it has ended', () => told.told.includes('end'))
    assert.equal(told.bytes.toString(), 'last words')
    const answer = once(peer, 'data')
    link.write(Buffer.from('an answer'))
    assert.equal(String((await answer)[0]), 'an answer')
    link.destroySoon()
    await until('it is closed', () => told.told.includes('close'))
  })

  test('what was written leaves before it closes', async () => {
    const { link, peer, told } = await open()
    peer.pause()
    const large = pattern(10_000_000, 3)
    link.write(large)
    link.destroySoon()
    assert.equal(link.write(Buffer.from('too late')), true)
    const received: Buffer[] = []
    peer.on('data', chunk => received.push(chunk)).resume()
    await once(peer, 'end')
    assert.ok(Buffer.concat(received).equals(large))
    peer.end()
    await until('it is closed', () => told.told.includes('close'))
    assert.ok(!told.told.includes('error'))
  })

  test('a peer that is gone: an error or the end, and then no write throws', async () => {
    const { link, peer, told } = await open()
    peer.resetAndDestroy()
    await until('it is closed', () => told.told.includes('close'))
    assert.ok(!link.isOpen)
    assert.equal(link.write(Buffer.from('x')), true)
    link.pause()
    link.resume()
    assert.equal(link.unsentBytes, 0)
  })
})
