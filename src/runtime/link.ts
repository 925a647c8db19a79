import type { Socket } from 'node:net'

/** Whose a link is. */
export interface LinkUser {
  /** What was read; it may be kept. */
  onData(chunk: Buffer): void
  /** Everything that was written has left. */
  onDrain(): void
  /** The peer will send nothing more. */
  onEnd(): void
  onError(error: Error): void
  onClose(): void
}

/** What Node.js keeps below a socket, as far as it is used here. */
interface Handle {
  reading: boolean
  onread: (this: Handle) => Buffer | undefined
  readonly writeQueueSize: number
  readStart(): number
  readStop(): number
  useUserBuffer(buffer: Buffer): void
  writeBuffer(request: WriteRequest, chunk: Buffer): number
  [linkOf]?: Link
}

interface WriteRequest {
  oncomplete: ((this: WriteRequest, status: number) => void) | undefined
  link: Link | undefined
  /** What the kernel has not taken yet: nothing below knows that it is still needed. */
  chunk: Buffer | undefined
}

/** What all handles tell about the call that was made last. */
interface Streams {
  WriteWrap: new () => WriteRequest
  streamBaseState: Int32Array
  kReadBytesOrError: number
  kLastWriteWasAsync: number
}

const linkOf = Symbol('link')
/** What is read at once at most. */
const readBytes = 64 * 1024
/** Pieces from here on are passed on in the buffer they were read into; smaller ones are copied out of it. */
const largeBytes = 16 * 1024
/** More that has not left is too much: no more should be written until it has. */
const unsentBytesMax = 16 * 1024

const streams = loadStreams()
/** What all links read into that get small pieces only. */
const shared = Buffer.allocUnsafeSlow(readBytes)
/** Serves all writes that are over at once, which leave no trace in it. */
let spare: WriteRequest | undefined

/**
 * A socket's bytes, without the streams of Node.js where that can be: reading and writing through them costs objects,
 * ticks and callbacks for each piece, a third and more of a worker's own processor time (decision 9). What a socket is
 * otherwise, how it is closed and what becomes of it when something fails stays Node.js' own.
 *
 * It takes what Node.js keeps below a socket, which has no public name. Where that is missing, and for encrypted
 * sockets, it is a stream as any other.
 */
export class Link {
  readonly socket: Socket
  readonly #user: LinkUser
  /** Undefined where bytes go through the stream. */
  #handle: Handle | undefined
  /** What is read into, after something large has come. */
  #own: Buffer | undefined
  /** What Node.js does with what was read: still the one to know of the end, and of errors. */
  #onRead: Handle['onread'] | undefined
  #isPaused = false
  #isOpen = true
  /** Writes that the kernel has not taken yet. */
  #pending = 0

  constructor(socket: Socket, user: LinkUser) {
    this.socket = socket
    this.#user = user
    const linked = socket as LinkedSocket
    linked[linkOf] = this
    linked.on('data', onData)
    linked.on('drain', onDrain)
    linked.on('end', onEnd)
    linked.on('error', onError)
    linked.on('close', onClose)
    this.#bypass()
  }

  /** From here on the stream gets nothing to read and nothing to write. */
  #bypass(): void {
    const { _handle: handle } = this.socket as Socket & { _handle?: Handle | null }
    const isPlain = !('encrypted' in this.socket) && !this.socket.connecting && !this.socket.destroyed
    if (!streams || !handle || !isPlain || typeof handle.useUserBuffer !== 'function') return
    this.#handle = handle
    this.#onRead = handle.onread
    handle[linkOf] = this
    handle.onread = onRead
    handle.useUserBuffer(shared)
  }

  /** What was written and has not left yet. */
  get unsentBytes(): number {
    const bytes = this.socket.writableLength
    return this.#pending === 0 ? bytes : bytes + (this.#handle?.writeQueueSize ?? 0)
  }

  /** Enough was written that has not left yet: `onDrain` tells when it has. */
  get needsDrain(): boolean {
    return this.#pending === 0 ? this.socket.writableNeedDrain : this.unsentBytes >= unsentBytesMax
  }

  /** Whether what is written has a chance to arrive. */
  get isOpen(): boolean {
    return this.#isOpen && !this.socket.destroyed
  }

  /** Where it is connected to here: `address:port`. */
  get localAddress(): string {
    return `${this.socket.localAddress ?? '?'}:${this.socket.localPort ?? 0}`
  }

  /** Sends a piece, which must not be changed until it has left. False: no more until `onDrain`. */
  write(chunk: Buffer): boolean {
    const handle = this.#handle
    if (!this.isOpen) return true
    if (!handle || !streams) return this.socket.write(chunk)
    const request = (spare ??= new streams.WriteWrap())
    const error = handle.writeBuffer(request, chunk)
    if (error !== 0) return this.#fail(error)
    if (streams.streamBaseState[streams.kLastWriteWasAsync] === 0) return true
    spare = undefined
    request.oncomplete = onWritten
    request.link = this
    request.chunk = chunk
    this.#pending++
    return this.unsentBytes < unsentBytesMax
  }

  #fail(error: number): boolean {
    this.socket.destroy(new Error(`a write failed (${error})`))
    return true
  }

  /** Reads nothing more until `resume`. */
  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.socket.pause()
    const handle = this.#handle
    if (!handle?.reading || this.socket.destroyed) return
    handle.reading = false
    handle.readStop()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    const handle = this.#handle
    if (handle && !handle.reading && !this.socket.destroyed) {
      handle.reading = true
      handle.readStart()
    }
    this.socket.resume()
  }

  /** Closes it when what was written has left. */
  destroySoon(): void {
    this.#isOpen = false
    this.socket.destroySoon()
  }

  destroy(): void {
    this.#isOpen = false
    this.socket.destroy()
  }

  // What the handle says.

  /** So many bytes were read, or an error. Returns the buffer for the next ones when it is another one. */
  onRead(bytes: number): Buffer | undefined {
    if (bytes <= 0) {
      this.#onRead!.call(this.#handle!)
      return undefined
    }
    const own = this.#own
    const isLarge = bytes >= largeBytes
    if (isLarge) this.#own = Buffer.allocUnsafeSlow(readBytes)
    else if (own) this.#own = undefined
    const chunk = isLarge && own ? own.subarray(0, bytes) : copyOf(own ?? shared, bytes)
    this.#user.onData(chunk)
    if (isLarge) return this.#own
    return own ? shared : undefined
  }

  onWritten(status: number): void {
    this.#pending--
    if (status < 0) this.#fail(status)
    else if (this.#pending === 0 && this.#isOpen) this.#user.onDrain()
  }

  // What the stream says.

  onData(chunk: Buffer): void {
    this.#user.onData(chunk)
  }

  onDrain(): void {
    if (this.#pending === 0) this.#user.onDrain()
  }

  onEnd(): void {
    this.#user.onEnd()
  }

  onError(error: Error): void {
    this.#isOpen = false
    this.#user.onError(error)
  }

  onClose(): void {
    this.#isOpen = false
    this.#handle = undefined
    this.#user.onClose()
  }
}

/** Listeners that all sockets share: with some for each an idle client takes a tenth more memory. */
type LinkedSocket = Socket & { [linkOf]?: Link }

function onData(this: LinkedSocket, chunk: Buffer): void {
  this[linkOf]!.onData(chunk)
}

function onDrain(this: LinkedSocket): void {
  this[linkOf]!.onDrain()
}

function onEnd(this: LinkedSocket): void {
  this[linkOf]!.onEnd()
}

function onError(this: LinkedSocket, error: Error): void {
  this[linkOf]!.onError(error)
}

function onClose(this: LinkedSocket): void {
  this[linkOf]!.onClose()
}

function onRead(this: Handle): Buffer | undefined {
  return this[linkOf]!.onRead(streams!.streamBaseState[streams!.kReadBytesOrError]!)
}

function onWritten(this: WriteRequest, status: number): void {
  this.chunk = undefined
  this.link!.onWritten(status)
}

/** Small copies share memory with others. */
function copyOf(source: Buffer, bytes: number): Buffer {
  const copy = Buffer.allocUnsafe(bytes)
  if (bytes <= 48) for (let at = 0; at < bytes; at++) copy[at] = source[at]!
  else copy.set(source.subarray(0, bytes))
  return copy
}

function loadStreams(): Streams | undefined {
  const { binding } = process as unknown as { binding?: (name: string) => Partial<Streams> }
  try {
    const found = binding?.('stream_wrap')
    const isWhole =
      typeof found?.WriteWrap === 'function' &&
      found.streamBaseState !== undefined &&
      found.kReadBytesOrError !== undefined &&
      found.kLastWriteWasAsync !== undefined
    return isWhole ? (found as Streams) : undefined
  } catch {
    return undefined
  }
}
