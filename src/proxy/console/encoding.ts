import { Server } from '../../wire/codes.ts'
import { frame, writeErrorBody } from '../../wire/messages.ts'
import type { Cell, Column, ColumnType, Row } from './columns.ts'

/**
 * Rows as PostgreSQL sends them. Source: PostgreSQL documentation, "Message Formats", and for the binary form of
 * `numeric` what its `numeric_send` writes.
 */

/** Result formats of a Bind: text, or binary. */
export type Format = 0 | 1

/** OID and length of each type. */
const types: Record<ColumnType, { oid: number; bytes: number }> = {
  text: { oid: 25, bytes: -1 },
  int4: { oid: 23, bytes: 4 },
  int8: { oid: 20, bytes: 8 },
  numeric: { oid: 1700, bytes: -1 },
}

export const parseComplete: Buffer = frame(Server.ParseComplete, Buffer.alloc(0))
export const bindComplete: Buffer = frame(Server.BindComplete, Buffer.alloc(0))
export const closeComplete: Buffer = frame(Server.CloseComplete, Buffer.alloc(0))
export const noData: Buffer = frame(Server.NoData, Buffer.alloc(0))
export const portalSuspended: Buffer = frame(Server.PortalSuspended, Buffer.alloc(0))
export const emptyQueryResponse: Buffer = frame(Server.EmptyQueryResponse, Buffer.alloc(0))
/** Of a statement without parameters, as all are here. */
export const parameterDescription: Buffer = frame(Server.ParameterDescription, Buffer.alloc(2))

/** `formats`: one a column; none for text throughout. */
export function writeRowDescription(columns: readonly Column[], formats: readonly Format[] = []): Buffer {
  const parts = [uint16(columns.length)]
  columns.forEach(({ name, type }, index) => {
    const { oid, bytes } = types[type]
    const field = Buffer.alloc(18)
    field.writeUInt32BE(oid, 6)
    field.writeInt16BE(bytes, 10)
    field.writeInt32BE(-1, 12)
    field.writeInt16BE(formats[index] ?? 0, 16)
    parts.push(Buffer.from(`${name}\0`, 'utf8'), field)
  })
  return frame(Server.RowDescription, Buffer.concat(parts))
}

/** One message a row, put together. */
export function writeDataRows(
  columns: readonly Column[],
  rows: readonly Row[],
  formats: readonly Format[] = [],
): Buffer {
  return Buffer.concat(rows.map(row => writeDataRow(columns, row, formats)))
}

function writeDataRow(columns: readonly Column[], row: Row, formats: readonly Format[]): Buffer {
  const parts = [uint16(columns.length)]
  columns.forEach(({ type }, index) => {
    const cell = row[index] ?? null
    const value = cell === null ? undefined : formats[index] === 1 ? binary(cell, type) : text(cell)
    const length = Buffer.alloc(4)
    length.writeInt32BE(value?.length ?? -1, 0)
    parts.push(length)
    if (value) parts.push(value)
  })
  return frame(Server.DataRow, Buffer.concat(parts))
}

function text(cell: NonNullable<Cell>): Buffer {
  return Buffer.from(String(cell), 'utf8')
}

function binary(cell: NonNullable<Cell>, type: ColumnType): Buffer {
  switch (type) {
    case 'text':
      return text(cell)
    case 'int4': {
      const bytes = Buffer.alloc(4)
      bytes.writeInt32BE(Number(cell), 0)
      return bytes
    }
    case 'int8': {
      const bytes = Buffer.alloc(8)
      bytes.writeBigInt64BE(BigInt(cell), 0)
      return bytes
    }
    case 'numeric':
      return binaryNumeric(Number(cell))
    default:
      return type satisfies never
  }
}

/** A whole number of at least 0: digits to the base of 10000, the highest first. */
function binaryNumeric(value: number): Buffer {
  const digits: number[] = []
  for (let rest = value; rest > 0; rest = Math.floor(rest / 10_000)) digits.unshift(rest % 10_000)
  const weight = Math.max(0, digits.length - 1)
  // Number of digits, weight of the first, sign, digits behind the point.
  return Buffer.concat([digits.length, weight, 0, 0, ...digits].map(uint16))
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value, 0)
  return bytes
}

export function writeCommandComplete(tag: string): Buffer {
  return frame(Server.CommandComplete, Buffer.from(`${tag}\0`, 'utf8'))
}

export function writeNotice(message: string, detail?: string): Buffer {
  const fields = { severity: 'NOTICE', code: '00000', message, detail } as const
  return frame(Server.NoticeResponse, writeErrorBody(fields))
}
