import { readHints } from '../../routing/hints.ts'
import { Client as Code } from '../../wire/codes.ts'
import { Scanner } from '../../wire/scanner.ts'
import type { ServerConnection } from '../server.ts'
import { keepsHiddenState } from '../session/state-scan.ts'
import { Owed } from './answers.ts'

/** What came of a piece of a client's bytes. */
export type Relayed =
  /** Passed on; `false` when the server is slow and the client should not be read from. */
  | boolean
  /** What follows has to wait for what was passed on: it may change the session. */
  | 'barrier'
  /** The client has said goodbye. */
  | 'terminated'
  /** The client does not keep to the protocol; `problem` says how. */
  | 'violation'

/** The longest unnamed statement that is kept to be prepared again elsewhere. */
const unnamedBytesMax = 16 * 1024
const headerLength = 5
const empty = Buffer.alloc(0)

/**
 * Passes a client's bytes on to its server. Headers are looked at in place and requests counted; bodies go as they
 * came. What a session that may have to move leaves behind without the server telling is remembered.
 */
export class ClientRelay {
  problem = ''
  /** It may hold settings that no question to the server would show. */
  hiddenState = false
  /** The Parse message of the unnamed statement while that exists; undefined when it cannot be made again. */
  unnamed: Buffer | undefined
  hasUnnamed = false
  readonly #scanner = new Scanner()
  /** Whether statements are looked at: only for sessions that could move. */
  readonly #watches: boolean
  /** A header of which only a part has come. */
  #kept: Buffer = empty

  constructor(watches: boolean) {
    this.#watches = watches
  }

  /** Everything that came was whole messages, and was passed on. */
  get atBoundary(): boolean {
    return this.#scanner.atBoundary && this.#kept.length === 0
  }

  /** No message was passed on in part: the next bytes on the server connection begin a message. */
  get isWhole(): boolean {
    return this.#scanner.atBoundary
  }

  pass(piece: Buffer, server: ServerConnection, nowMs: number): Relayed {
    const chunk = this.#kept.length === 0 ? piece : Buffer.concat([this.#kept, piece])
    this.#kept = empty
    const scanner = this.#scanner
    const end = chunk.length
    let at = 0
    while ((at = scanner.next(chunk, at, end)) >= 0) {
      switch (scanner.code) {
        case Code.Query:
          refuseExplain(chunk, at, at + scanner.bodyBytes)
          server.request(Owed.Query, nowMs)
          if (this.#watches) this.#lookAt(chunk, at, end)
          this.hasUnnamed = false
          break
        case Code.Sync:
          server.request(Owed.Sync, nowMs)
          break
        case Code.FunctionCall:
          server.request(Owed.Query, nowMs)
          break
        case Code.Parse:
          refuseExplain(chunk, chunk.indexOf(0, at) + 1, at + scanner.bodyBytes)
          server.request(Owed.Parse, nowMs)
          if (this.#watches) this.#lookAt(chunk, at, end)
          if (at === end || chunk[at] === 0) this.#keepUnnamed(chunk, at, end)
          break
        case Code.Bind:
          server.request(Owed.Bind, nowMs)
          break
        case Code.Execute:
          server.request(Owed.Execute, nowMs)
          break
        case Code.Describe:
          server.request(Owed.Describe, nowMs)
          break
        case Code.Close:
          server.request(Owed.Close, nowMs)
          break
        case Code.CopyDone:
        case Code.CopyFail:
          server.owed.copyInEnds()
          break
        case Code.Flush:
        case Code.CopyData:
          break
        case Code.Terminate:
          // The server connection outlives the session: what came before is passed on, the goodbye is not.
          if (at > headerLength) server.write(chunk.subarray(0, at - headerLength))
          return 'terminated'
        default:
          this.problem = `unknown message '${printable(scanner.code)}' (0x${scanner.code.toString(16)})`
          return 'violation'
      }
    }
    if (scanner.violation) {
      this.problem = 'a message has an impossible length'
      return 'violation'
    }
    const kept = scanner.takePartialHeader()
    if (kept === 0) return server.write(chunk)
    // Kept back, so that a Terminate never reaches the server in part.
    this.#kept = Buffer.from(chunk.subarray(end - kept))
    return kept === end || server.write(chunk.subarray(0, end - kept))
  }

  #lookAt(chunk: Buffer, at: number, end: number): void {
    if (this.hiddenState) return
    const bodyEnd = at + this.#scanner.bodyBytes
    // What is not here as a whole is not searched for across pieces: it counts as found.
    this.hiddenState = bodyEnd > end || keepsHiddenState(chunk, at, bodyEnd)
  }

  #keepUnnamed(chunk: Buffer, at: number, end: number): void {
    this.hasUnnamed = true
    this.unnamed = undefined
    if (!this.#watches) return
    const { bodyBytes } = this.#scanner
    if (at + bodyBytes > end || bodyBytes > unnamedBytesMax) return
    this.unnamed = Buffer.from(chunk.subarray(at - headerLength, at + bodyBytes))
  }
}

/**
 * What asks where it would go must not be run, and here nobody answers it: a parenthesis in the place of its first slash
 * makes it a statement that the server refuses before it does anything.
 */
function refuseExplain(chunk: Buffer, start: number, bodyEnd: number): void {
  if (chunk[start] !== 0x2f && (chunk[start] ?? 0x21) > 0x20) return
  const end = Math.min(chunk.length, bodyEnd)
  if (readHints(chunk, start, end)?.explain) chunk[chunk.indexOf(0x2f, start)] = 0x29
}

function printable(code: number): string {
  return code > 0x20 && code < 0x7f ? String.fromCharCode(code) : '?'
}
