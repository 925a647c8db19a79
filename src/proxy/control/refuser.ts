import type { Socket } from 'node:net'
import { readOn } from '../../runtime/sockets.ts'
import type { Timers } from '../../runtime/timers.ts'
import { writeErrorResponse } from '../../wire/messages.ts'
import { readStartup } from '../../wire/startup.ts'
import { errorFor } from '../client/failures.ts'

export interface RefuserOptions {
  timers: Timers
  /** Whether clients may ask for TLS here. */
  hasTls: () => boolean
}

/** How long a client may take to say what it wants and to hear that it does not get it. */
const limitMs = 2000
/** Most clients that are listened to at once. */
const listeningMax = 1000

const empty = Buffer.alloc(0)
const notEncrypted = Buffer.from('N')

/**
 * Tells clients that nobody has room for why, with SQLSTATE 53300, and closes their connections.
 *
 * A client that first asks for encryption is told that there is none, because an error in that place is one that
 * libpq does not show. Where there is TLS it gets the error nevertheless: else it might go on without, or say that
 * TLS is missing.
 */
export class Refuser {
  readonly #options: RefuserOptions
  #listening = 0

  constructor(options: RefuserOptions) {
    this.#options = options
  }

  /** Takes over a socket of which nothing was read. */
  refuse(socket: Socket, message: string): void {
    const details = { hint: 'Connect again in a moment.' }
    const error = writeErrorResponse(errorFor('too_many_clients', message, details))
    socket.on('error', () => undefined)
    if (this.#listening < listeningMax) return this.#listen(socket, error)
    // Most drivers show it even before they have said anything, as they do when PostgreSQL cannot start a process.
    socket.write(error)
    socket.destroySoon()
  }

  #listen(socket: Socket, error: Buffer): void {
    this.#listening++
    const timer = this.#options.timers.after(limitMs, () => socket.destroy())
    socket.on('close', () => {
      this.#listening--
      timer.cancel()
    })
    let come: Buffer = empty
    const onData = (chunk: Buffer): void => {
      come = come.length === 0 ? chunk : Buffer.concat([come, chunk])
      const read = readStartup(come)
      if (read.done === false) return
      const asks = read.done === true ? read.packet.kind : 'startup'
      if (asks === 'cancel') return void socket.destroy()
      if (asks === 'gss' || (asks === 'ssl' && !this.#options.hasTls())) {
        come = empty
        return void socket.write(notEncrypted)
      }
      // What still comes is read, and the end waited for: what is not read would take the error with it.
      socket.off('data', onData)
      socket.end(error)
      socket.resume()
    }
    socket.on('data', onData)
    socket.on('end', () => socket.destroy())
    readOn(socket)
  }
}
