import { connect, type Socket } from 'node:net'
import { readErrorFields, writeQuery } from '../../src/wire/messages.ts'
import { MessageReader } from '../../src/wire/reader.ts'
import { writeStartup } from '../../src/wire/startup.ts'
import { until } from './wait.ts'

export interface Received {
  code: string
  body: Buffer
}

/** A client that speaks the protocol byte by byte, for what no driver would send. */
export class WireClient {
  readonly socket: Socket
  readonly received: Received[] = []
  /** Bytes that are no messages, such as the answer to SSLRequest. */
  raw = Buffer.alloc(0)
  closed = false
  processId = 0
  secret: Buffer = Buffer.alloc(0)
  #reader: MessageReader | undefined

  /** `socket`: a connection that is open, such as one with TLS on it. */
  constructor(port: number, socket: Socket = connect({ port, host: '127.0.0.1' })) {
    this.socket = socket
    this.socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    this.socket.on('error', () => {})
    this.socket.on('close', () => {
      this.closed = true
    })
  }

  static async open(port: number, parameters: Record<string, string> = {}): Promise<WireClient> {
    const client = new WireClient(port)
    client.startup({ user: 'postgres', database: 'postgres', ...parameters })
    await client.ready()
    return client
  }

  startup(parameters: Record<string, string>): void {
    this.expectMessages()
    this.send(writeStartup(new Map(Object.entries(parameters))))
  }

  /** From now on what comes are messages. */
  expectMessages(): void {
    this.#reader = new MessageReader(1 << 29)
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes)
  }

  /** Runs a simple query and gives back what came up to its ReadyForQuery. */
  async query(sql: string): Promise<Received[]> {
    const from = this.received.length
    this.send(writeQuery(sql))
    await this.ready(from)
    return this.received.slice(from)
  }

  async ready(from = 0): Promise<void> {
    const seen = (wanted: string): Received | undefined =>
      this.received.slice(from).find(({ code }) => code === wanted)
    await until('ReadyForQuery', () => seen('Z') !== undefined || this.closed)
    const error = seen('E')
    if (error) throw new Error(readErrorFields(error.body).get('M'))
    if (!seen('Z')) throw new Error('the connection was closed')
  }

  /** Fields of the last ErrorResponse. */
  get error(): Map<string, string> | undefined {
    const last = this.received.findLast(({ code }) => code === 'E')
    return last && readErrorFields(last.body)
  }

  /** Waits until the other side has closed, and gives back the fields of the error it told. */
  async refused(limitMs = 10_000): Promise<Map<string, string>> {
    await until('the connection is closed', () => this.closed, limitMs)
    return this.error ?? new Map()
  }

  close(): void {
    this.socket.destroy()
  }

  #onData(chunk: Buffer): void {
    if (!this.#reader) {
      this.raw = Buffer.concat([this.raw, chunk])
      return
    }
    this.#reader.push(chunk, (code, body) => {
      this.received.push({ code: String.fromCharCode(code), body: Buffer.from(body) })
      if (code === 0x4b) {
        this.processId = body.readInt32BE(0)
        this.secret = Buffer.from(body.subarray(4))
      }
      return true
    })
  }
}
