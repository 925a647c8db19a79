import { SharingFacts, type SharingRow, type SystemNamesCache } from '../../sql/volatility.ts'
import { readDataRowBytes, writeQuery } from '../../wire/messages.ts'
import type { Askable } from './catalog.ts'
import {
  definitionsMax,
  definitionsQuestion,
  ownNamesMax,
  ownNamesQuestion,
  sharingFingerprintQuestion,
  systemNamesQuestion,
} from './sharing-questions.ts'

/**
 * Loads what decides which statements of a database may share a connection, by a few questions one after another.
 * Undefined when the server refused one; `known` itself when the catalog is as it was for those.
 */
export function loadSharingFacts(
  server: Askable,
  known: SharingFacts | undefined,
  systems: SystemNamesCache,
  done: (facts: SharingFacts | undefined) => void,
): void {
  const ask = (question: string, take: (rows: SharingRow[] | undefined) => void): void => {
    server.ask(writeQuery(question), 1, answer => {
      const reply = answer.replies.at(-1)
      take(answer.failed || !reply ? undefined : reply.rows.map(readDataRowBytes))
    })
  }
  ask(sharingFingerprintQuestion, prints => {
    const fingerprint = prints?.[0]?.[0]
    if (!fingerprint) return done(undefined)
    if (fingerprint === known?.fingerprint) return done(known)
    ask(systemNamesQuestion, system => {
      const lines = system?.[0]?.[0]
      if (!lines) return done(undefined)
      ask(ownNamesQuestion, names => {
        if (!names) return done(undefined)
        ask(definitionsQuestion, definitions => {
          // What somebody has locked can be had the next time.
          const facts = new SharingFacts(systems.of(lines), definitions ? fingerprint : '')
          fill(facts, names, definitions ?? [])
          if (!definitions) facts.addUnknownDefinitions()
          done(facts)
        })
      })
    })
  })
}

function fill(facts: SharingFacts, names: readonly SharingRow[], definitions: readonly SharingRow[]): void {
  if (names.length > ownNamesMax) return facts.addTooMuch()
  for (const row of names) facts.add(row)
  if (definitions.length > definitionsMax) return facts.addUnknownDefinitions()
  for (const row of definitions) facts.add(row)
}
