import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { silentLogger } from '../runtime/log.ts'
import type { Topology } from '../topology/types.ts'
import { type Listening, startHealthServer } from './http.ts'

const topology: Topology = {
  cluster: 'demo',
  revision: 0,
  intentRevision: 0,
  epoch: 0,
  systemId: '',
  nodes: [],
  primary: undefined,
  conflict: [],
  alarms: [],
  settings: { v: 1 },
}
const options = {
  host: '127.0.0.1',
  view: () => ({
    cluster: 'demo',
    node: 'a',
    agentVersion: '1.0',
    status: undefined,
    topology,
    storeUp: true,
    probeAgeMs: 0,
    probeAgeMaxMs: 1_000,
  }),
  metrics: () => Promise.reject(new Error('no metrics today')),
  log: silentLogger,
}
let server: Listening

before(async () => {
  server = await startHealthServer({ ...options, port: 0 })
})

after(() => server.close())

/** Everything the server says to `bytes` until it closes the connection. */
function exchange(bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(server.port, '127.0.0.1', () => socket.write(bytes))
    socket.on('data', chunk => {
      text += chunk.toString()
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(text))
  })
}

test('what HAProxy sends by itself, and other methods', async () => {
  const options = await exchange('OPTIONS /liveness HTTP/1.0\r\n\r\n')
  assert.match(options, /^HTTP\/1\.1 200 OK\r\n/)
  assert.ok(options.endsWith('\r\n\r\n'))
  const head = await exchange('HEAD /primary HTTP/1.0\r\n\r\n')
  assert.match(head, /^HTTP\/1\.1 503 .*content-length: [1-9]/s)
  assert.ok(head.endsWith('\r\n\r\n'))
  const get = await exchange('GET /primary HTTP/1.0\r\n\r\n')
  assert.equal(JSON.parse(get.slice(get.indexOf('\r\n\r\n'))).reason, 'PostgreSQL was not asked yet')
  assert.match(await exchange('DELETE / HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 405 .*allow: GET, HEAD, OPTIONS/s)
})

test('bytes that are no request, a target that is no path, headers without end', async () => {
  assert.match(await exchange('\u0000\u0001\u0002\r\n\r\n'), /^HTTP\/1\.1 400 /)
  assert.match(await exchange('GET // HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 400 /)
  assert.match(await exchange(`GET / HTTP/1.0\r\nx: ${'y'.repeat(20_000)}`), /^HTTP\/1\.1 431 /)
})

test('an answer that fails is a 500 for that request alone', async () => {
  assert.match(await exchange('GET /metrics HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 500 /)
  assert.match(await exchange('GET /liveness HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 200 /)
})

test('an address that is taken is named', async () => {
  await assert.rejects(
    startHealthServer({ ...options, port: server.port }),
    new RegExp(`cannot listen on 127.0.0.1:${server.port} for health checks`),
  )
})
