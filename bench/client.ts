import { connect, type Socket } from 'node:net'
import type { ScramKeys } from '../src/auth/scram.ts'
import { ScramClient } from '../src/auth/scram-client.ts'
import { systemRandom } from '../src/runtime/random.ts'
import { frame, readErrorFields, terminate, writeQuery } from '../src/wire/messages.ts'
import { MessageReader } from '../src/wire/reader.ts'
import { writeStartup } from '../src/wire/startup.ts'
import { benchDatabase, benchUser } from './contestants/contestant.ts'
import { BenchError } from './error.ts'

/** As little of a client as the measurements need, in order that they measure somebody else. */
const startup = writeStartup(
  new Map([
    ['user', benchUser],
    ['database', benchDatabase],
  ]),
)
const idle = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])
const firstBytesMax = 65_536

export class Visit {
  readonly socket: Socket
  receivedBytes = 0
  #done: ((cause?: Error) => void) | undefined
  #tail: Buffer = Buffer.alloc(0)

  constructor(socket: Socket) {
    this.socket = socket
    socket.removeAllListeners('data')
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('close', () => this.#done?.(new BenchError('load_failed', 'the connection was closed')))
  }

  /** Runs a statement; the rows are counted as bytes and thrown away. */
  async run(sql: string): Promise<void> {
    const ready = this.ready()
    this.socket.write(writeQuery(sql))
    await ready
  }

  /** The next ReadyForQuery outside a transaction; rejects on an error. */
  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#done = cause => (cause ? reject(cause) : resolve())
    })
  }

  /** Sends a piece, and waits for the other side to take it when it is slow. */
  async send(chunk: Buffer): Promise<void> {
    if (!this.socket.write(chunk)) await new Promise(resolve => this.socket.once('drain', resolve))
  }

  end(): true {
    this.socket.end(terminate)
    return true
  }

  #onData(chunk: Buffer): void {
    if (this.receivedBytes === 0 && chunk[0] === 0x45) {
      this.#done?.(refusal(chunk.subarray(5)))
    }
    this.receivedBytes += chunk.length
    // A ReadyForQuery is the last that comes; it may be split over two pieces.
    const last = chunk.length >= idle.length ? chunk : Buffer.concat([this.#tail, chunk])
    this.#tail = Buffer.from(last.subarray(-idle.length))
    if (this.#tail.equals(idle)) this.#done?.()
  }
}

/** Logs in by SCRAM, or without a question where none is asked. */
export async function logIn(port: number, keys: ScramKeys): Promise<Visit> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  socket.on('error', () => {})
  const scram = new ScramClient({
    password: undefined,
    keys,
    channelBinding: { kind: 'none' },
    random: systemRandom,
  })
  const reader = new MessageReader(firstBytesMax)
  await new Promise<void>((resolve, reject) => {
    const onMessage = (code: number, body: Buffer): boolean => {
      if (code === 0x5a) resolve()
      if (code === 0x45) reject(refusal(body))
      if (code === 0x52) answer(socket, scram, Buffer.from(body), reject)
      return true
    }
    socket.on('data', (chunk: Buffer) => reader.push(chunk, onMessage))
    socket.on('close', () =>
      reject(new BenchError('load_failed', `port ${port} closed the connection during the login`)),
    )
    socket.write(startup)
  })
  return new Visit(socket)
}

function answer(socket: Socket, scram: ScramClient, body: Buffer, reject: (cause: Error) => void): void {
  const type = body.readUInt32BE(0)
  if (type === 10) {
    const first = scram.start()
    const length = Buffer.alloc(4)
    length.writeUInt32BE(first.length)
    socket.write(frame(0x70, Buffer.concat([Buffer.from(`${scram.mechanism}\0`), length, first])))
  } else if (type === 11 || type === 12) {
    void scram.receive(body.subarray(4)).then(step => {
      if (step.kind === 'response') socket.write(frame(0x70, step.body))
      else if (step.kind !== 'verified') reject(new BenchError('load_failed', step.message))
    })
  }
}

function refusal(body: Buffer): BenchError {
  return new BenchError('load_failed', readErrorFields(body).get('M') ?? 'an error without words')
}
