import { Server as Code, headerBytes } from '../../wire/codes.ts'

/** Field V: the severity that is never translated. */
const fatal = Buffer.from('\0VFATAL\0')
const panic = Buffer.from('\0VPANIC\0')
/** An immediate shutdown, or the crash of another server process. */
const stopping = Buffer.from('\0VWARNING\0C57P0')
/** A shutdown, or somebody has ended just this connection. */
const terminated = Buffer.from('\0C57P01\0')

/** Whether the body of an ErrorResponse says that the connection ends. */
export function isFatal(body: Buffer): boolean {
  return body.includes(fatal) || body.includes(panic)
}

/** Whether the body of a NoticeResponse says that the server stops, and the connection with it. */
export function saysStop(body: Buffer): boolean {
  return body.includes(stopping)
}

/** Whether it may be this connection alone that somebody has ended. */
export function isTermination(words: Buffer): boolean {
  return words.includes(terminated)
}

/**
 * Where in a piece that begins with a message a server says that the connection ends; -1 when it does not. Of what is
 * not there as a whole nothing is known.
 */
export function farewellAt(piece: Buffer): number {
  let at = 0
  while (at + headerBytes <= piece.length) {
    const end = at + 1 + piece.readUInt32BE(at + 1)
    if (end > piece.length || end < at + headerBytes) return -1
    const code = piece[at]
    if (code === Code.ErrorResponse && isFatal(piece.subarray(at, end))) return at
    if (code === Code.NoticeResponse && saysStop(piece.subarray(at, end))) return at
    at = end
  }
  return -1
}
