import { Authentication, Client, headerBytes, Server, Startup, TransactionStatus } from './codes.ts'

/** Codecs of the messages that the proxy writes or reads itself. Everything else only passes through. */

export type Severity = 'ERROR' | 'FATAL' | 'NOTICE'

export interface ErrorFields {
  severity: Severity
  /** SQLSTATE. */
  code: string
  message: string
  detail?: string | undefined
  hint?: string | undefined
  /** The routine of PostgreSQL that would raise it: drivers know some errors by it. */
  routine?: string | undefined
}

/** ErrorResponse with the fields that drivers look at: S, V, C, M and where given D, H, R. */
export function writeErrorResponse(fields: ErrorFields): Buffer {
  return frame(Server.ErrorResponse, writeErrorBody(fields))
}

/** The body of such an ErrorResponse. */
export function writeErrorBody(fields: ErrorFields): Buffer {
  let body = `S${fields.severity}\0V${fields.severity}\0C${fields.code}\0M${fields.message}\0`
  if (fields.detail !== undefined) body += `D${fields.detail}\0`
  if (fields.hint !== undefined) body += `H${fields.hint}\0`
  if (fields.routine !== undefined) body += `R${fields.routine}\0`
  return Buffer.from(`${body}\0`, 'utf8')
}

/** The fields of an ErrorResponse or NoticeResponse body by their letter. */
export function readErrorFields(body: Buffer): Map<string, string> {
  const fields = new Map<string, string>()
  let at = 0
  while (at < body.length && body[at] !== 0) {
    const end = body.indexOf(0, at + 1)
    if (end < 0) break
    fields.set(String.fromCharCode(body[at]!), body.toString('utf8', at + 1, end))
    at = end + 1
  }
  return fields
}

export function frame(code: number, body: Uint8Array): Buffer {
  const message = Buffer.allocUnsafe(headerBytes + body.length)
  message[0] = code
  message.writeUInt32BE(body.length + 4, 1)
  message.set(body, headerBytes)
  return message
}

function authentication(type: number): Buffer {
  const body = Buffer.alloc(4)
  body.writeUInt32BE(type, 0)
  return frame(Server.Authentication, body)
}

export const authenticationOk: Buffer = authentication(Authentication.Ok)
export const readyForQueryIdle: Buffer = frame(Server.ReadyForQuery, Buffer.from([TransactionStatus.Idle]))
export const readyForQueryFailed: Buffer = frame(
  Server.ReadyForQuery,
  Buffer.from([TransactionStatus.Failed]),
)
export const terminate: Buffer = frame(Client.Terminate, Buffer.alloc(0))
export const sync: Buffer = frame(Client.Sync, Buffer.alloc(0))

/** Calls a function without arguments, by its number in pg_proc; the result comes in binary form. */
export function writeFunctionCall(oid: number): Buffer {
  const body = Buffer.alloc(10)
  body.writeUInt32BE(oid, 0)
  body.writeUInt16BE(1, 8)
  return frame(Client.FunctionCall, body)
}

export function writeQuery(sql: string): Buffer {
  return frame(Client.Query, Buffer.from(`${sql}\0`, 'utf8'))
}

/** The same for text with one character a byte. */
export function writeQueryBytes(sql: string): Buffer {
  return frame(Client.Query, Buffer.from(`${sql}\0`, 'latin1'))
}

/** Parse: a statement by name with the type OIDs of its parameters. */
export function writeParse(name: string, sql: string, parameterTypes: readonly number[]): Buffer {
  const text = Buffer.from(`${name}\0${sql}\0`, 'utf8')
  const types = Buffer.alloc(2 + 4 * parameterTypes.length)
  types.writeUInt16BE(parameterTypes.length, 0)
  parameterTypes.forEach((oid, index) => types.writeUInt32BE(oid, 2 + 4 * index))
  return frame(Client.Parse, Buffer.concat([text, types]))
}

/** One character a byte, as `readParameterStatus` gives them: the value goes on as it came. */
export function writeParameterStatus(name: string, value: string): Buffer {
  return frame(Server.ParameterStatus, Buffer.from(`${name}\0${value}\0`, 'latin1'))
}

export function readParameterStatus(body: Buffer): { name: string; value: string } | undefined {
  const nameEnd = body.indexOf(0)
  const valueEnd = nameEnd < 0 ? -1 : body.indexOf(0, nameEnd + 1)
  if (valueEnd < 0) return undefined
  return { name: body.toString('latin1', 0, nameEnd), value: body.toString('latin1', nameEnd + 1, valueEnd) }
}

export function writeBackendKeyData(processId: number, secret: Uint8Array): Buffer {
  const body = Buffer.allocUnsafe(4 + secret.length)
  body.writeInt32BE(processId, 0)
  body.set(secret, 4)
  return frame(Server.BackendKeyData, body)
}

/** The newest minor version of protocol 3 that is spoken with clients. With it cancel keys may be long. */
export const minorVersionMax = 2

/**
 * Answers a startup that asked for a newer minor version or for `_pq_.` options that are not known: the version
 * that is spoken then, and the options that were not recognised. The documentation speaks of the minor version
 * alone, but servers send, and libpq checks, the whole version word.
 */
export function writeNegotiateProtocolVersion(minor: number, unknownOptions: readonly string[]): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32BE(Startup.protocol3 + minor, 0)
  head.writeUInt32BE(unknownOptions.length, 4)
  const names = Buffer.from(unknownOptions.map(name => `${name}\0`).join(''), 'utf8')
  return frame(Server.NegotiateProtocolVersion, Buffer.concat([head, names]))
}

/** The columns of a DataRow as text; NULL as undefined. For the proxy's own small questions. */
export function readDataRow(body: Buffer): (string | undefined)[] {
  return readColumns(body, 'utf8')
}

/** The same with one character a byte, whatever the encoding is. */
export function readDataRowBytes(body: Buffer): (string | undefined)[] {
  return readColumns(body, 'latin1')
}

function readColumns(body: Buffer, encoding: 'utf8' | 'latin1'): (string | undefined)[] {
  const columns: (string | undefined)[] = []
  let at = 2
  for (let index = body.readUInt16BE(0); index > 0; index--) {
    const bytes = body.readInt32BE(at)
    at += 4
    if (bytes < 0) columns.push(undefined)
    else {
      columns.push(body.toString(encoding, at, at + bytes))
      at += bytes
    }
  }
  return columns
}

/** Bind without parameters, with every result column as text. */
export function writeBind(portal: string, statement: string): Buffer {
  return frame(Client.Bind, Buffer.from(`${portal}\0${statement}\0\0\0\0\0\0\0`, 'utf8'))
}

/** Bind with parameters as text, one character a byte, and every result column as text. */
export function writeBindText(portal: string, statement: string, parameters: readonly string[]): Buffer {
  const parts = [Buffer.from(`${portal}\0${statement}\0\0\0`, 'latin1'), uint16(parameters.length)]
  for (const parameter of parameters) {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32BE(parameter.length, 0)
    parts.push(bytes, Buffer.from(parameter, 'latin1'))
  }
  parts.push(uint16(0))
  return frame(Client.Bind, Buffer.concat(parts))
}

function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff])
}

/** Execute without a row limit. */
export function writeExecute(portal: string): Buffer {
  return frame(Client.Execute, Buffer.from(`${portal}\0\0\0\0\0`, 'utf8'))
}

export function writeDescribeStatement(name: string): Buffer {
  return frame(Client.Describe, Buffer.from(`S${name}\0`, 'utf8'))
}

export function writeCloseStatement(name: string): Buffer {
  return frame(Client.Close, Buffer.from(`S${name}\0`, 'utf8'))
}
