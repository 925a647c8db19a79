import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Random } from '../../src/runtime/random.ts'
import { mutated } from './mutate.ts'

/**
 * Stands in for a PostgreSQL whose answers cannot be trusted: passes everything on to a real one, and what comes back
 * with faults now and then, from the first byte of a connection on.
 */
export class FaultyLink {
  /** How likely a piece of an answer gets faults, from 0 to 1. */
  faultRate = 0
  faults = 0
  readonly #random: Random
  readonly #target: number
  readonly #spared: string
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  /** Connections that name `spared` get no faults. */
  constructor(target: number, spared: string, random: Random) {
    this.#target = target
    this.#spared = spared
    this.#random = random
    this.#server = createServer(socket => this.#link(socket))
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>(resolve => this.#server.listen(port, '127.0.0.1', resolve))
  }

  /** Ends all connections that are open. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    this.cut()
    await new Promise(resolve => this.#server.close(resolve))
  }

  #link(near: Socket): void {
    const far = connect({ port: this.#target, host: '127.0.0.1' })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
    let spared = false
    near.on('data', (chunk: Buffer) => {
      spared ||= chunk.includes(this.#spared)
      far.write(chunk)
    })
    far.on('data', (chunk: Buffer) => {
      const hasFault = !spared && this.#random.next() < this.faultRate
      if (hasFault) this.faults++
      near.write(hasFault ? mutated(this.#random, chunk) : chunk)
    })
  }
}
