/** What is known about one database's own functions and relations, as far as it may touch a session. */
export interface SessionFacts {
  /** Nothing in the database can be trusted to leave the session alone. */
  readonly everything: boolean
  readonly suspects: ReadonlySet<string>
}

/** Before the facts of a database are loaded: any statement may change the session. */
export const unloadedFacts: SessionFacts = { everything: true, suspects: new Set() }

export function buildSessionFacts(
  _rows: readonly (readonly (string | undefined)[])[],
  _bodies: readonly (readonly (string | undefined)[])[],
): SessionFacts {
  return { everything: false, suspects: new Set() }
}
