import { timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Logger } from '../runtime/log.ts'

/** What a path answers. */
export interface Answer {
  status: number
  type: string
  body: string
}

export type Route = () => Answer | Promise<Answer>

export interface AdminServerOptions {
  listen: string
  /** 0 takes any free port. */
  port: number
  /** When set, everything but the health paths needs it as a bearer token. */
  token: string | undefined
  /** GET paths. */
  routes: ReadonlyMap<string, Route>
  /** POST paths: what changes something. */
  actions: ReadonlyMap<string, Route>
  /** Paths that balancers and service managers ask without a token. */
  openPaths: ReadonlySet<string>
  /** Tried first for what is not in `routes`; returns whether it took the request. */
  other: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined
  log: Logger
}

export interface AdminServer {
  readonly port: number
  readonly url: string
  close(): Promise<void>
}

/**
 * The admin HTTP server. Without a token it takes only requests whose Host is this machine's own name or
 * address and that no web page of another origin has sent, so that a browser cannot be talked into them.
 */
export async function startAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const server = createServer({ requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 16_384 })
  server.maxConnections = 1000
  server.on('request', (request, response) => {
    answer(options, request, response).catch((cause: unknown) => {
      options.log.error({ err: cause, url: request.url }, 'an admin request failed')
      if (!response.headersSent)
        reply(response, json(500, { error: { message: 'internal error, see the log' } }))
      else response.destroy()
    })
  })
  await listen(server, options)
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : options.port
  const host = options.listen.includes(':') ? `[${options.listen}]` : options.listen
  return {
    port,
    url: `http://${host}:${port}`,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

export function json(status: number, value: unknown): Answer {
  return { status, type: 'application/json', body: `${JSON.stringify(value)}\n` }
}

export function text(status: number, body: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body }
}

async function listen(server: Server, { listen: host, port, log }: AdminServerOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port }, () => {
      server.off('error', reject)
      server.on('error', error => log.error({ err: error }, 'the admin server failed'))
      resolve()
    })
  })
}

async function answer(
  options: AdminServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = (request.url ?? '/').split('?', 1)[0]!
  const refusal = options.openPaths.has(path) ? undefined : refuse(options, request)
  if (refusal) return reply(response, refusal)
  const action = options.actions.get(path)
  if (action) {
    if (request.method === 'POST') return reply(response, await action())
    return reply(response, json(405, { error: { message: `${path} only takes POST` } }))
  }
  const route = options.routes.get(path)
  if (!route) {
    if (options.other?.(request, response)) return
    const paths = [...options.routes.keys(), ...options.actions.keys()].join(' ')
    return reply(response, json(404, { error: { message: `no such path: ${path}; there is ${paths}` } }))
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return reply(response, json(405, { error: { message: `${path} only takes GET` } }))
  }
  reply(response, await route())
}

function refuse(options: AdminServerOptions, request: IncomingMessage): Answer | undefined {
  const { token } = options
  if (token !== undefined) {
    if (hasToken(request, token)) return undefined
    return json(401, { error: { message: 'this needs the header Authorization: Bearer <admin.token>' } })
  }
  const host = (request.headers.host ?? '').replace(/:\d+$/, '')
  const isOwnName = ['localhost', '127.0.0.1', '[::1]', options.listen].includes(host)
  const { origin } = request.headers
  const isOwnOrigin = origin === undefined || origin === `http://${request.headers.host}`
  if (isOwnName && isOwnOrigin) return undefined
  return json(403, {
    error: { message: 'without admin.token only requests from this machine itself are answered' },
  })
}

function hasToken(request: IncomingMessage, token: string): boolean {
  const given = Buffer.from(request.headers.authorization ?? '')
  const wanted = Buffer.from(`Bearer ${token}`)
  return given.length === wanted.length && timingSafeEqual(given, wanted)
}

function reply(response: ServerResponse, { status, type, body }: Answer): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}
