import { connect, createServer, type Server, type Socket } from 'node:net'
import { systemTimers, type Timer } from '../../src/runtime/timers.ts'
import { freePorts } from './ports.ts'

/** The way to a server, which may take its time: what comes back passes `delayMs` later, in order. */
export class SlowLink {
  delayMs = 0
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
    const late = new Set<Timer>()
    near.on('close', () => {
      for (const timer of late) timer.cancel()
    })
    far.on('data', (chunk: Buffer) => {
      const pass = (): void => void (near.writable && near.write(chunk))
      if (this.delayMs === 0 && late.size === 0) return pass()
      const timer = systemTimers.after(this.delayMs, () => {
        late.delete(timer)
        pass()
      })
      late.add(timer)
    })
  }
}
