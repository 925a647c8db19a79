import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Logger } from '../runtime/log.ts'
import type { Timers } from '../runtime/timers.ts'
import type { EmbeddedStore } from './embedded.ts'
import { StoreError, type StoreErrorCode, type Transaction, type WatchEvent } from './store.ts'

/** The answers of the store's HTTP interface, as `remote.ts` reads them. Errors are `ErrorBody`. */
export const storePath = '/api/store/'
/** How often a watch that has nothing to say sends an empty line. */
export const heartbeatPeriodMs = 2_000

export interface ErrorBody {
  error: { code: StoreErrorCode; message: string }
}

/** One line of a watch's answer. An empty object is a sign of life; the first one says that the watch stands. */
export interface WatchLine {
  events?: WatchEvent[]
  compacted?: number
}

export interface StoreHandler {
  /** Answers a request under `/api/store/`; false when the path is another. */
  handle(request: IncomingMessage, response: ServerResponse): boolean
  /** Ends the watches that are open. */
  close(): void
}

export interface StoreHandlerOptions {
  timers: Timers
  log: Logger
}

/** The largest transaction etcd takes is 1.5 MiB; JSON may need a little more for the same. */
const bodyBytesMax = 4 * 1024 * 1024
/** What a watcher that reads too slowly may leave unread before its connection is closed. */
const unreadBytesMax = 16 * 1024 * 1024
const watchesMax = 1_000

const statusOf: Record<StoreErrorCode, number> = {
  unavailable: 503,
  denied: 403,
  full: 507,
  lease_not_found: 404,
  corrupt: 500,
  locked: 500,
  closed: 503,
  invalid: 400,
}

/**
 * The embedded store over HTTP, for the command line and other processes (`openRemoteStore`). Who may call it is
 * decided by the server it is mounted in.
 */
export function createStoreHandler(store: EmbeddedStore, options: StoreHandlerOptions): StoreHandler {
  const watches = new Set<ServerResponse>()

  async function answer(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const parameters = url.searchParams
    const route = `${request.method} ${url.pathname.slice(storePath.length)}`
    switch (route) {
      case 'GET get':
        return reply(response, 200, await store.get(parameters.get('key') ?? ''))
      case 'GET list':
        return reply(response, 200, await store.list(parameters.get('prefix') ?? ''))
      case 'POST transact':
        return reply(response, 200, await store.transact(asTransaction(await readBody(request))))
      case 'POST lease/grant':
        return reply(response, 200, await store.leases.grant(numberOf(await readBody(request), 'ttlMs')))
      case 'POST lease/keepalive':
        return reply(response, 200, {
          ttlMs: store.leases.keepAlive(stringOf(await readBody(request), 'id')),
        })
      case 'POST lease/revoke':
        await store.leases.revoke(stringOf(await readBody(request), 'id'))
        return reply(response, 200, {})
      case 'GET watch':
        return watch(response, parameters)
      default:
        throw invalid(
          `there is no ${request.method} ${url.pathname}: see the documentation of the store's paths`,
        )
    }
  }

  function watch(response: ServerResponse, parameters: URLSearchParams): void {
    const fromRevision = Number(parameters.get('from'))
    if (!Number.isSafeInteger(fromRevision)) throw invalid('"from" must be a revision: a whole number')
    if (watches.size >= watchesMax)
      throw new StoreError('unavailable', 'too many watches are open: close some')
    const send = (line: WatchLine): void => {
      response.write(`${JSON.stringify(line)}\n`)
      // The watcher comes back and goes on from the last line it has seen.
      if (response.writableLength > unreadBytesMax) response.destroy()
    }
    response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
    send({})
    const opened = store.watch(parameters.get('prefix') ?? '', fromRevision, {
      onEvents: events => send({ events }),
      onCompacted: compacted => response.end(`${JSON.stringify({ compacted } satisfies WatchLine)}\n`),
    })
    const heartbeat = options.timers.every(heartbeatPeriodMs, () => send({}))
    watches.add(response)
    response.on('close', () => {
      watches.delete(response)
      heartbeat.cancel()
      opened.close()
    })
  }

  return {
    handle(request, response) {
      const url = new URL(request.url ?? '/', 'http://store')
      if (!url.pathname.startsWith(storePath)) return false
      response.on('error', cause =>
        options.log.debug({ event: 'store.serve', err: cause }, 'a caller went away'),
      )
      answer(request, response, url).catch((cause: unknown) => replyError(response, cause, options.log))
      return true
    },
    close() {
      for (const response of watches) response.destroy()
    },
  }
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body))
}

function replyError(response: ServerResponse, cause: unknown, log: Logger): void {
  if (!(cause instanceof StoreError)) {
    log.error({ event: 'store.serve', err: cause }, 'a request to the store failed')
  }
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  const code = cause instanceof StoreError ? cause.code : 'unavailable'
  const message = cause instanceof Error ? cause.message : String(cause)
  // What is left of a body that was refused is not worth reading.
  if (code === 'invalid') response.setHeader('connection', 'close')
  reply(response, statusOf[code], { error: { code, message } } satisfies ErrorBody)
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request) {
    size += (chunk as Buffer).length
    if (size > bodyBytesMax) throw invalid(`the body is larger than ${bodyBytesMax} bytes: send less`)
    chunks.push(chunk as Buffer)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch (cause) {
    throw invalid(
      `the body is not JSON (${cause instanceof Error ? cause.message : String(cause)}): send JSON`,
    )
  }
}

function asTransaction(body: unknown): Transaction {
  if (!isObject(body) || !Array.isArray(body['compares']) || !Array.isArray(body['writes'])) {
    throw invalid('a transaction is {"compares": [...], "writes": [...]}: send both lists')
  }
  const compares = body['compares'].map((compare: unknown) => {
    const target = stringOf(compare, 'target')
    if (target !== 'modified' && target !== 'created') throw invalid(`unknown compare target "${target}"`)
    return { key: stringOf(compare, 'key'), target, revision: numberOf(compare, 'revision') } as const
  })
  const writes = body['writes'].map((write: unknown) => {
    const kind = stringOf(write, 'kind')
    const key = stringOf(write, 'key')
    if (kind === 'delete') return { kind, key } as const
    if (kind !== 'put') throw invalid(`unknown kind of write "${kind}"`)
    const leaseId = isObject(write) && write['leaseId'] !== undefined ? stringOf(write, 'leaseId') : undefined
    return { kind, key, value: stringOf(write, 'value'), leaseId } as const
  })
  return { compares, writes }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function stringOf(body: unknown, field: string): string {
  const value = isObject(body) ? body[field] : undefined
  if (typeof value !== 'string') throw invalid(`"${field}" must be a string`)
  return value
}

function numberOf(body: unknown, field: string): number {
  const value = isObject(body) ? body[field] : undefined
  if (typeof value !== 'number') throw invalid(`"${field}" must be a number`)
  return value
}

function invalid(message: string): StoreError {
  return new StoreError('invalid', message)
}
