import { connect, createServer, type Server, type Socket } from 'node:net'
import { systemClock } from '../../src/runtime/clock.ts'
import { systemTimers, type Timer } from '../../src/runtime/timers.ts'
import { freePorts } from './ports.ts'

/** The way to a server, which may take its time: what comes back passes `delayMs` later, in order. */
export class SlowLink {
  delayMs = 0
  /** For each piece that comes back; what comes behind one waits for it. */
  delayFor = (): number => this.delayMs
  readonly port: number
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(target: number, port: number) {
    this.port = port
    this.#server = createServer(socket => this.#link(socket, target))
  }

  static async to(target: number): Promise<SlowLink> {
    const [port] = await freePorts(1)
    const link = new SlowLink(target, port!)
    await new Promise<void>(resolve => link.#server.listen(link.port, '127.0.0.1', resolve))
    return link
  }

  /** Ends all connections that are open, with what is on its way. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    this.cut()
    await new Promise(resolve => this.#server.close(resolve))
  }

  #link(near: Socket, target: number): void {
    const far = connect({ port: target, host: '127.0.0.1', noDelay: true })
    near.setNoDelay(true)
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
    near.on('data', (chunk: Buffer) => far.write(chunk))
    const late: { chunk: Buffer; dueMs: number }[] = []
    let timer: Timer | undefined
    near.on('close', () => timer?.cancel())
    const pass = (): void => {
      timer = undefined
      const nowMs = systemClock.nowMs()
      while (late.length > 0 && late[0]!.dueMs <= nowMs) {
        const { chunk } = late.shift()!
        if (near.writable) near.write(chunk)
      }
      if (late.length > 0) timer = systemTimers.after(Math.ceil(late[0]!.dueMs - nowMs), pass)
    }
    far.on('data', (chunk: Buffer) => {
      late.push({ chunk, dueMs: systemClock.nowMs() + this.delayFor() })
      if (!timer) pass()
    })
  }
}
