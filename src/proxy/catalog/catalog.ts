import {
  type FactsRow,
  type SessionFacts,
  SessionFactsBuilder,
  unloadedFacts,
} from '../../sql/session-facts.ts'
import { readDataRowBytes, writeQuery } from '../../wire/messages.ts'
import type { Answer } from '../relay/conversations.ts'
import {
  bodiesPageRows,
  bodiesQuestion,
  edgesMax,
  edgesQuestion,
  expressionsMax,
  expressionsQuestion,
  fingerprintQuestion,
  namesMax,
  namesQuestion,
} from './catalog-questions.ts'

/** A server connection that is idle, logged in to the database, and whose client_encoding is the one to read in. */
export interface Askable {
  ask(messages: Buffer, readyForQueries: number, done: (answer: Answer) => void): void
}

/** More source text than this is not read: every statement of such a database counts as one that may matter. */
const bodyBytesMax = 16 * 1024 * 1024

/**
 * Loads what the database's own functions, triggers, views and so on may do to a session, by a few questions one
 * after another; each answer is worked off before the next is asked. Undefined when the server refused one; `known`
 * itself when the catalog is as it was for those. A database beyond the limits gets `unloadedFacts`.
 */
export function loadSessionFacts(
  server: Askable,
  done: (facts: SessionFacts | undefined) => void,
  known: SessionFacts = unloadedFacts,
): void {
  new Load(server, done).start(known)
}

class Load {
  readonly #server: Askable
  readonly #done: (facts: SessionFacts | undefined) => void
  readonly #builder = new SessionFactsBuilder()
  #fingerprint = ''
  #bodyBytes = 0

  constructor(server: Askable, done: (facts: SessionFacts | undefined) => void) {
    this.#server = server
    this.#done = done
  }

  start(known: SessionFacts): void {
    this.#ask(fingerprintQuestion, ([row]) => {
      this.#fingerprint = row?.[0] ?? ''
      if (this.#fingerprint !== '' && this.#fingerprint === known.fingerprint) return this.#done(known)
      this.#names()
    })
  }

  #names(): void {
    this.#ask(namesQuestion, names => {
      if (names.length > namesMax) return this.#done(unloadedFacts)
      this.#add(names)
      this.#expressions()
    })
  }

  /** Objects that hold touchy expressions are where the search for what depends on them begins. */
  #expressions(): void {
    this.#ask(expressionsQuestion, expressions => {
      if (expressions.length > expressionsMax) return this.#done(unloadedFacts)
      const holders = expressions.map(row => ({ catalog: row[4] ?? '', oid: row[5] ?? '' }))
      this.#ask(edgesQuestion(holders), edges => {
        if (edges.length > edgesMax) return this.#done(unloadedFacts)
        this.#add(edges)
        this.#add(expressions)
        this.#bodies('0')
      })
    })
  }

  #bodies(after: string): void {
    this.#ask(bodiesQuestion(after), bodies => {
      for (const [, , , , body] of bodies) this.#bodyBytes += body?.length ?? 0
      if (this.#bodyBytes > bodyBytesMax) return this.#done(unloadedFacts)
      this.#add(bodies)
      const last = bodies.at(-1)?.[5]
      if (bodies.length < bodiesPageRows || last === undefined)
        this.#done(this.#builder.build(this.#fingerprint))
      else this.#bodies(last)
    })
  }

  #add(rows: readonly FactsRow[]): void {
    for (const row of rows) this.#builder.add(row)
  }

  #ask(question: string, take: (rows: FactsRow[]) => void): void {
    this.#server.ask(writeQuery(question), 1, answer => {
      const reply = answer.replies.at(-1)
      if (answer.failed || !reply) return this.#done(undefined)
      take(reply.rows.map(readDataRowBytes))
    })
  }
}
