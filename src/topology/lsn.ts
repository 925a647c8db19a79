import type { Lsn } from './types.ts'

/** `16/B374D848` as a number of bytes; undefined for what is none. */
export function readLsn(text: string): Lsn | undefined {
  const parts = /^([0-9a-f]{1,8})\/([0-9a-f]{1,8})$/i.exec(text.trim())
  return parts ? Number.parseInt(parts[1]!, 16) * 2 ** 32 + Number.parseInt(parts[2]!, 16) : undefined
}

const pageBytes = 8192
const shortHeaderBytes = 24
const longHeaderBytes = 40

/**
 * Where the next record would be inserted lies behind the header of a page that is still empty, while a standby that
 * has replayed everything stands before it. Source: PostgreSQL's `xlog_internal.h` (page headers).
 */
export function endOfRecords(insertLsn: Lsn, segmentBytes: number): Lsn {
  if (insertLsn % segmentBytes === longHeaderBytes) return insertLsn - longHeaderBytes
  return insertLsn % pageBytes === shortHeaderBytes ? insertLsn - shortHeaderBytes : insertLsn
}
