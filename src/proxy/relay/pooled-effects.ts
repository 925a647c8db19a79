import { isReadable, type SessionEffects, unreadEffects } from '../../sql/session-effects.ts'
import { writeErrorResponse } from '../../wire/messages.ts'
import type { Reported } from '../session/reported.ts'
import type { Outcome } from './answers.ts'
import type { Passage } from './pooled-passage.ts'

/** Notes what the statements of pooled clients may leave behind on the server that they are on their way to. */
export class PassingEffects {
  readonly #passage: Passage
  #encodedAs: Reported | undefined
  #readsEncoding = true

  constructor(passage: Passage) {
    this.#passage = passage
  }

  /** Whether statements can be read in the encoding that the server takes them in. */
  get isReadable(): boolean {
    const { reported } = this.#passage.server
    if (reported !== this.#encodedAs) {
      this.#encodedAs = reported
      this.#readsEncoding = isReadable(reported.get('client_encoding') ?? '')
    }
    return this.#readsEncoding
  }

  /** A statement is on its way. Returns what depends on its end; with a `refusal`, it must not be run. */
  note(effects: SessionEffects): Outcome | undefined {
    const { host, session } = this.#passage
    session.note(effects)
    if (effects.needsDatabase !== undefined) host.freeDatabase(effects.needsDatabase)
    return this.#noteSequences(effects)
  }

  /** It may be any statement: from now on the client keeps its server connection, and no more need be known. */
  noteUnread(): void {
    const { session } = this.#passage
    if (!session.isOpaque) session.note(unreadEffects)
  }

  /**
   * What a session has drawn from sequences stays on the server connection where it was. An error is better than what
   * another client has drawn; from then on, who draws from sequences in this database keeps its connection. A statement
   * that fails by itself relies on nothing.
   */
  #noteSequences(effects: SessionEffects): Outcome | undefined {
    if (!effects.writesSequenceState && !effects.readsSequenceState) return undefined
    const { client, database, server, session } = this.#passage
    const { user } = client
    if (effects.writesSequenceState) session.draws(server, database.sequenceReaders.has(user))
    if (!effects.readsSequenceState) return undefined
    if (session.hasSequenceStateOn(server)) {
      return {
        succeeded: () => {
          database.noteSequenceReader(user)
          session.pinForGood('sequence')
        },
      }
    }
    return {
      refusal: sequenceRefusal,
      refuses: syntaxError,
      failed: wasDiscarded => {
        if (!wasDiscarded) database.noteSequenceReader(user)
      },
    }
  }
}

/** SQLSTATE of what the proxy sends in the place of what it refuses. */
export const syntaxError = '42601'

const sequenceRefusal = writeErrorResponse({
  severity: 'ERROR',
  code: '55000',
  message: 'pgherd: currval and lastval tell here what another session has drawn from a sequence',
  detail: 'Whatever this client has drawn, it was on a server connection that it does not have any more.',
  hint:
    'Run it again after the next INSERT or nextval: from now on clients of this user keep their connection when ' +
    'they draw from a sequence. RETURNING, or pool_mode `session`, does without.',
})
