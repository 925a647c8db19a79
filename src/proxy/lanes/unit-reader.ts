import { Client as Code, headerBytes } from '../../wire/codes.ts'

/** What of a client's messages may share a server connection; everything else is `None`. */
export const UnitKind = {
  None: 0,
  /** One Query. */
  Simple: 1,
  /** Parse and Bind of the unnamed statement, perhaps Describe of the portal, Execute, Sync. */
  Parsed: 2,
  /** Bind of a named statement, perhaps Describe of the portal, Execute, Sync. */
  Bound: 3,
} as const
export type UnitKind = (typeof UnitKind)[keyof typeof UnitKind]

const syncBytes = headerBytes
/** The unnamed portal and no limit of rows. */
const executeBytes = headerBytes + 5
/** The unnamed portal. */
const describeBytes = headerBytes + 2

/**
 * Recognises a unit that is here as a whole and alone: one that ends where the piece does. Positions are those in
 * the piece; nothing is allocated. One reader serves all clients of a worker.
 */
export class UnitReader {
  kind: UnitKind = UnitKind.None
  /** The statement's text, without the zero behind it; not set for `Bound`. */
  textStart = 0
  textEnd = 0
  /** Behind the statement's name in Parse: text and parameter types. */
  bodyEnd = 0
  /** Where Bind begins, with its header. */
  bindStart = 0
  bindBodyBytes = 0
  /** The statement's name in Bind. */
  nameStart = 0
  nameEnd = 0
  describes = false

  read(chunk: Buffer): UnitKind {
    this.kind = UnitKind.None
    if (chunk.length < headerBytes + 1) return this.kind
    switch (chunk[0]) {
      case Code.Query:
        return this.#simple(chunk)
      case Code.Parse:
        return this.#parsed(chunk)
      case Code.Bind:
        return this.#bound(chunk, 0, UnitKind.Bound)
      default:
        return this.kind
    }
  }

  #simple(chunk: Buffer): UnitKind {
    const end = chunk.readUInt32BE(1) + 1
    if (end !== chunk.length || chunk[end - 1] !== 0) return this.kind
    this.textStart = headerBytes
    this.textEnd = end - 1
    this.kind = UnitKind.Simple
    return this.kind
  }

  #parsed(chunk: Buffer): UnitKind {
    const end = chunk.readUInt32BE(1) + 1
    if (end >= chunk.length || chunk[headerBytes] !== 0) return this.kind
    const textStart = headerBytes + 1
    const textEnd = chunk.indexOf(0, textStart)
    // Behind the text there is a number of types at least.
    if (textEnd < 0 || textEnd + 3 > end) return this.kind
    this.textStart = textStart
    this.textEnd = textEnd
    this.bodyEnd = end
    if (chunk[end] !== Code.Bind) return this.kind
    return this.#bound(chunk, end, UnitKind.Parsed)
  }

  #bound(chunk: Buffer, start: number, kind: UnitKind): UnitKind {
    if (chunk.length - start < headerBytes + 2) return this.kind
    const length = chunk.readUInt32BE(start + 1)
    let at = start + 1 + length
    // Only the unnamed portal, and the unnamed statement just where it was parsed.
    if (at >= chunk.length || chunk[start + headerBytes] !== 0) return this.kind
    const nameStart = start + headerBytes + 1
    const nameEnd = chunk.indexOf(0, nameStart)
    if (nameEnd < 0 || nameEnd >= at || (nameEnd === nameStart) !== (kind === UnitKind.Parsed))
      return this.kind
    this.describes = chunk[at] === Code.Describe
    if (this.describes) {
      if (!isDescribe(chunk, at)) return this.kind
      at += describeBytes
    }
    if (chunk.length - at !== executeBytes + syncBytes) return this.kind
    if (!isExecute(chunk, at) || chunk[at + executeBytes] !== Code.Sync) return this.kind
    if (chunk.readUInt32BE(at + executeBytes + 1) !== syncBytes - 1) return this.kind
    this.bindStart = start
    this.bindBodyBytes = length - 4
    this.nameStart = nameStart
    this.nameEnd = nameEnd
    this.kind = kind
    return kind
  }
}

const portal = 0x50 // 'P'

function isDescribe(chunk: Buffer, at: number): boolean {
  if (chunk.length - at < describeBytes || chunk.readUInt32BE(at + 1) !== describeBytes - 1) return false
  return chunk[at + headerBytes] === portal && chunk[at + headerBytes + 1] === 0
}

function isExecute(chunk: Buffer, at: number): boolean {
  if (chunk[at] !== Code.Execute || chunk.readUInt32BE(at + 1) !== executeBytes - 1) return false
  return chunk[at + headerBytes] === 0 && chunk.readUInt32BE(at + headerBytes + 1) === 0
}
