/**
 * What a text of statements may leave behind in the session that runs it, beyond its transaction. Found by words
 * alone, and only ever erring towards "it may": the server is asked what is really there.
 */
export interface SessionEffects {
  /** The session's state may be another one afterwards: ask the server. */
  readonly mayChange: boolean
  /**
   * Names of settings of a made-up class (`app.tenant`) that it sets, be it only for its transaction, which leaves an
   * empty one behind. The server does not list those by itself.
   */
  readonly customSettings: readonly string[]
  /** It may set one whose name cannot be seen, and so cannot be read back. */
  readonly unknownCustom: boolean
  /** Something that cannot be asked for and cannot be rebuilt; a sentence. */
  readonly obstacle: string | undefined
  /** Functions that the facts do not know: load them again, and judge these names by `callEffects`. */
  readonly unknownCalls: readonly string[]
  /** It uses currval or lastval, which mean what this very session did before. */
  readonly readsSequenceState: boolean
  /** It may draw from a sequence, which currval and lastval would then tell about. */
  readonly writesSequenceState: boolean
  /** It defines or changes what the facts are about: load them again. */
  readonly changesCatalog: boolean
  /** The text is this one DEALLOCATE and nothing else. */
  readonly deallocates: Deallocation | undefined
  /** It has DISCARD ALL. */
  readonly discardsAll: boolean
  /** The one setting that the text sets or resets, when it does nothing else; in lower case, by its own name. */
  readonly onlySet: string | undefined
  /** It sets something until the end of its transaction. */
  readonly setsLocally: boolean
  /** It may end what keeps a session at its server: worth asking again. */
  readonly endsState: boolean
  /** It can only be carried out while nobody else is connected to this database. One character a byte. */
  readonly needsDatabase: string | undefined
}

/** `DEALLOCATE [PREPARE] name | ALL`. */
export interface Deallocation {
  readonly all: boolean
  /** One character a byte, as PostgreSQL reads it; '' for all. */
  readonly name: string
  /** The range of the name or of ALL in the buffer, quotes included. */
  readonly start: number
  readonly end: number
}

/** The yes-or-no part of `SessionEffects`. */
export const Effect = {
  Changes: 1,
  UnknownCustom: 2,
  ReadsSequence: 4,
  WritesSequence: 8,
  Catalog: 16,
  DiscardsAll: 32,
  Ends: 64,
  /** It has `customSettings`, perhaps only for its transaction. */
  Custom: 128,
  /** It sets something for its transaction. */
  Local: 256,
} as const

/** Of code that nothing is known about. */
export const anyEffects: number = Effect.Changes | Effect.UnknownCustom | Effect.WritesSequence

/** What comes with a name: with calling a function, or with a relation in whatever way it is used. */
export interface NameEffects {
  readonly mask: number
  readonly customSettings: readonly string[]
  readonly obstacle: string | undefined
}

/** What a scan gathers. */
export interface Findings {
  mask: number
  customSettings: string[]
  obstacle: string | undefined
  unknownCalls: string[]
  deallocates: Deallocation | undefined
  onlySet: string | undefined
  needsDatabase: string | undefined
}

const empty: readonly string[] = Object.freeze([])

/** One frozen object for each mask: nearly every text has no more to tell. */
const ofMask: readonly SessionEffects[] = Array.from({ length: 512 }, (_, mask) =>
  Object.freeze({
    mayChange: (mask & Effect.Changes) !== 0,
    customSettings: empty,
    unknownCustom: (mask & Effect.UnknownCustom) !== 0,
    obstacle: undefined,
    unknownCalls: empty,
    readsSequenceState: (mask & Effect.ReadsSequence) !== 0,
    writesSequenceState: (mask & Effect.WritesSequence) !== 0,
    changesCatalog: (mask & Effect.Catalog) !== 0,
    deallocates: undefined,
    discardsAll: (mask & Effect.DiscardsAll) !== 0,
    onlySet: undefined,
    setsLocally: (mask & Effect.Local) !== 0,
    endsState: (mask & Effect.Ends) !== 0,
    needsDatabase: undefined,
  }),
)

/** The one object for "nothing at all". */
export const noEffects: SessionEffects = ofMask[0]!

/** Of a text that could not be read. */
export const unreadEffects: SessionEffects =
  ofMask[anyEffects | Effect.ReadsSequence | Effect.Catalog | Effect.Ends]!

export function effectsOfMask(mask: number): SessionEffects {
  return ofMask[mask]!
}

export function effectsOfFindings(findings: Findings): SessionEffects {
  const { mask, ...details } = findings
  return { ...ofMask[mask]!, ...details }
}
