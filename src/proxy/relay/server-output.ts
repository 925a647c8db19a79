import { copyShort, type Parameterized } from '../../sql/parameterized.ts'
import { Client as Code, headerBytes } from '../../wire/codes.ts'
import { frame } from '../../wire/messages.ts'

const firstBytes = 8 * 1024
/** A buffer that has grown beyond this is given up after it was sent. */
const keptBytesMax = 64 * 1024

/** Bytes that go to a server in one write. The buffer is used again when the kernel has taken all of it at once. */
export class ServerOutput {
  #buffer = Buffer.allocUnsafeSlow(firstBytes)
  #bytes = 0

  get isEmpty(): boolean {
    return this.#bytes === 0
  }

  get bytes(): number {
    return this.#bytes
  }

  add(source: Buffer, start = 0, end = source.length): void {
    this.#makeRoom(end - start)
    source.copy(this.#buffer, this.#bytes, start, end)
    this.#bytes += end - start
  }

  /**
   * Bind of the statement that the server knows as `name`, and whatever comes behind it: `source[nameEnd, end)`
   * from the zero behind the client's own name on. Portals have no name here.
   */
  addBind(name: string, bodyBytes: number, nameBytes: number, source: Buffer, nameEnd: number): void {
    this.#makeRoom(headerBytes + 1 + name.length + source.length - nameEnd)
    const buffer = this.#buffer
    let at = this.#bytes
    buffer[at] = Code.Bind
    buffer.writeUInt32BE(4 + bodyBytes - nameBytes + name.length, at + 1)
    buffer[at + headerBytes] = 0
    at += headerBytes + 1
    at += buffer.write(name, at, 'latin1')
    at += source.copy(buffer, at, nameEnd)
    this.#bytes = at
  }

  /**
   * A whole unit that has the same answer as a Query: `values` are bound to the statement that is known as `name`.
   * Without `describes` for one that gives no rows.
   */
  addQuery(name: string, request: Buffer, values: Parameterized, describes: boolean): void {
    const { count, starts, ends, lengths } = values
    let bytes = headerBytes + 1 + name.length + 1 + 2 + 2 + 2
    for (let index = 0; index < count; index++) bytes += 4 + lengths[index]!
    const behind = describes ? describeAndExecute : execute
    this.#makeRoom(bytes + behind.length)
    const buffer = this.#buffer
    let at = this.#bytes
    buffer[at] = Code.Bind
    at = buffer.writeUInt32BE(bytes - 1, at + 1)
    buffer[at++] = 0
    for (let index = 0; index < name.length; index++) buffer[at++] = name.charCodeAt(index)
    buffer[at++] = 0
    at = buffer.writeUInt16BE(0, at)
    at = buffer.writeUInt16BE(count, at)
    for (let index = 0; index < count; index++) {
      at = buffer.writeUInt32BE(lengths[index]!, at)
      for (let from = starts[index]!; from < ends[index]!; from++) {
        buffer[at++] = request[from]!
        if (request[from] === quote) from++
      }
    }
    at = buffer.writeUInt16BE(0, at)
    this.#bytes = copyShort(behind, 0, behind.length, buffer, at)
  }

  /** What has to be sent; it is the caller's until `reuse`. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#bytes)
    this.#bytes = 0
    return taken
  }

  /** What was taken is with the kernel (`isSent`), or is still needed by who sends it. */
  reuse(isSent: boolean): void {
    if (!isSent || this.#buffer.length > keptBytesMax) this.#buffer = Buffer.allocUnsafeSlow(firstBytes)
  }

  #makeRoom(bytes: number): void {
    const needed = this.#bytes + bytes
    if (needed <= this.#buffer.length) return
    let size = this.#buffer.length
    while (size < needed) size *= 2
    const grown = Buffer.allocUnsafeSlow(size)
    this.#buffer.copy(grown, 0, 0, this.#bytes)
    this.#buffer = grown
  }
}

const quote = 0x27
const portal = 0x50 // 'P'
/** Execute of the unnamed portal, and Sync. */
const execute = Buffer.concat([frame(Code.Execute, Buffer.alloc(5)), frame(Code.Sync, Buffer.alloc(0))])
const describeAndExecute = Buffer.concat([frame(Code.Describe, Buffer.from([portal, 0])), execute])
