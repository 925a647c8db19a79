import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Logger } from '../runtime/log.ts'
import { answerHealth, type HealthView } from './health.ts'

export interface HealthServerOptions {
  host: string
  /** 0 takes any free port. */
  port: number
  view: () => HealthView
  /** The text of `/metrics`, in Prometheus' format. */
  metrics: () => Promise<{ contentType: string; text: string }>
  log: Logger
}

export interface Listening {
  port: number
  close(): Promise<void>
}

/** Balancers, probes and scrapers of one node: far more than any of them needs. */
const connectionsMax = 256
/** Health checks are one short line: who takes longer to send it is not one. */
const requestLimitMs = 5_000
const headerBytesMax = 8 * 1024

/** Serves the health paths and `/metrics`. Rejects when the address cannot be listened on, and says which. */
export async function startHealthServer(options: HealthServerOptions): Promise<Listening> {
  const { host, port, log } = options
  const server = createServer(
    {
      requestTimeout: requestLimitMs,
      headersTimeout: requestLimitMs,
      keepAliveTimeout: requestLimitMs,
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: headerBytesMax,
    },
    (request, response) => {
      answer(options, request, response).catch((err: unknown) => {
        log.error({ event: 'agent.http', err }, 'a health request failed')
        if (!response.headersSent) response.writeHead(500)
        response.end()
      })
    },
  )
  server.maxConnections = connectionsMax
  await new Promise<void>((resolve, reject) => {
    server.once('error', cause =>
      reject(
        new Error(`cannot listen on ${host}:${port} for health checks; choose another address`, { cause }),
      ),
    )
    server.listen(port, host, resolve)
  })
  server.on('error', err => log.error({ event: 'agent.http', err }, 'the health server has a problem'))
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function answer(
  { view, metrics }: HealthServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const method = request.method ?? ''
  const bodyless = method === 'HEAD' || method === 'OPTIONS'
  const send = (status: number, contentType: string, text: string): void => {
    const length = Buffer.byteLength(text)
    response.writeHead(status, {
      'content-type': contentType,
      'content-length': bodyless && method !== 'HEAD' ? 0 : length,
    })
    response.end(bodyless ? undefined : text)
  }
  const sendJson = (status: number, body: object): void =>
    send(status, 'application/json', `${JSON.stringify(body)}\n`)

  if (method !== 'GET' && !bodyless) {
    response.setHeader('allow', 'GET, HEAD, OPTIONS')
    return sendJson(405, { reason: `${method} is not allowed; use GET, HEAD or OPTIONS` })
  }
  const url = targetOf(request.url ?? '/')
  if (!url) return sendJson(400, { reason: 'the request target is not a path' })
  if (url.pathname === '/metrics') {
    const { contentType, text } = await metrics()
    return send(200, contentType, text)
  }
  const { status, body } = answerHealth(url.pathname, url.searchParams, view())
  return sendJson(status, body)
}

function targetOf(target: string): URL | undefined {
  return URL.canParse(target, 'http://agent') ? new URL(target, 'http://agent') : undefined
}
