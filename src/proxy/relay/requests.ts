import { Client as Code, headerBytes, messageBytesMax } from '../../wire/codes.ts'
import { Scanner } from '../../wire/scanner.ts'

/** Of a message that is longer, so much has to have come before it is worth a server connection. */
const requestBytesMin = 8192

/** Whether so much of a message has come that it is worth a server connection: the whole, or of a long one a part. */
export function hasRequest(ahead: Buffer): boolean {
  if (ahead.length < headerBytes) return false
  const length = ahead.readUInt32BE(1)
  // What makes no sense is told at once.
  return length > messageBytesMax || ahead.length > Math.min(length, requestBytesMin)
}

/** How long the first request in `ahead` is, up to the message that is answered by a ReadyForQuery; if it is whole. */
export function firstRequestBytes(ahead: Buffer): number | undefined {
  const scanner = new Scanner()
  let at = 0
  while ((at = scanner.next(ahead, at, ahead.length)) >= 0) {
    const end = at + scanner.bodyBytes
    const { code } = scanner
    const isEnd = code === Code.Query || code === Code.Sync || code === Code.FunctionCall
    if (isEnd) return end <= ahead.length ? end : undefined
  }
  return undefined
}
