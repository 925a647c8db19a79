import { Client as Code } from '../../wire/codes.ts'
import { readyForQueryFailed, readyForQueryIdle, writeParse, writeQuery } from '../../wire/messages.ts'
import { staleError, staleMessage } from '../pool/kept-reads.ts'
import { Owed } from '../relay/answers.ts'
import { syntaxError } from '../relay/pooled-effects.ts'
import type { ServerConnection } from '../server.ts'
import type { Client } from './client.ts'
import type { ClientHost } from './client-host.ts'
import { cancelledWhile } from './failures.ts'

/**
 * The wait of a client for the standby that it keeps, which has to replay first what the client's next request must see.
 * The client is held meanwhile. In the end that request is passed on, or refused in the place of its server.
 */
export class ReplayWait {
  readonly #client: Client
  readonly #server: ServerConnection
  readonly #host: ClientHost
  #isOver = false

  constructor(client: Client, server: ServerConnection, host: ClientHost) {
    this.#client = client
    this.#server = server
    this.#host = host
    client.hold()
    host.kept.whenFresh(client, server, isFresh => this.#decide(isFresh))
  }

  /** Nothing is waited for any more. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** The client has asked for that. What has not come whole cannot be answered yet. */
  cancel(): void {
    if (this.#client.takeRequest() === undefined) return
    this.#isOver = true
    this.#refuseWhole(cancelled)
  }

  #decide(isFresh: boolean): void {
    const client = this.#client
    if (this.#isOver || !client.isHeld || this.#server.isClosed) return
    this.#isOver = true
    // What came behind it may have to see more.
    if (isFresh) {
      const first = client.takeRequest() ?? client.takeAhead()
      this.#host.kept.noteLook(client, this.#server, first)
      return client.goOnWith(first)
    }
    this.#host.counters.routed.stale++
    const error = staleError(client, this.#server)
    if (client.takeRequest() === undefined) this.#refusePart(error)
    else this.#refuseWhole(error)
  }

  /** Answers a request in the place of its server; a transaction fails by it. */
  #refuseWhole(error: Buffer): void {
    const client = this.#client
    const server = this.#server
    if (!server.isInTransaction) return client.goOnAnswered(Buffer.concat([error, readyForQueryIdle]), server)
    server.ask(failing, 1, () => {
      if (!client.isHeld || server.isClosed) return
      client.goOnAnswered(Buffer.concat([error, readyForQueryFailed]), server)
    })
  }

  /** The rest of the request may only come when this is answered: the server fails first, and discards what follows. */
  #refusePart(error: Buffer): void {
    const part = this.#client.takeAhead()
    const server = this.#server
    if (part[0] === Code.Query || part[0] === Code.FunctionCall) {
      return this.#client.end('no_route', staleMessage(server.target.node))
    }
    server.write(failingParse)
    server.request(Owed.Refused, this.#host.clock.nowMs(), { refusal: error, refuses: syntaxError })
    this.#client.goOnWith(part)
  }
}

const failing = writeQuery('pgherd has refused a statement')
const failingParse = writeParse('pgherd_refused', 'pgherd has refused a statement', [])
const cancelled = cancelledWhile('It was waiting for a replica.')
