import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { openEmbedded, serveStore } from '../../test/support/stores.ts'
import type { EmbeddedStore } from './embedded.ts'
import type { ErrorBody } from './serve.ts'

describe('store over HTTP', () => {
  let store: EmbeddedStore
  let server: Awaited<ReturnType<typeof serveStore>>
  before(async () => {
    store = await openEmbedded()
    server = await serveStore(store)
  })
  after(async () => {
    await server.close()
    await store.close()
  })

  const post = (path: string, body: string): Promise<Response> =>
    fetch(`${server.url}/api/store/${path}`, { method: 'POST', body })

  async function refused(response: Response, status: number, code: string, message: RegExp): Promise<void> {
    assert.equal(response.status, status)
    const { error } = (await response.json()) as ErrorBody
    assert.equal(error.code, code)
    assert.match(error.message, message)
  }

  it('leaves other paths alone', async () => {
    assert.equal((await fetch(`${server.url}/api/topology`)).status, 404)
  })

  it('answers nonsense with what is wrong about it', async () => {
    const nonsense: [body: string, message: RegExp][] = [
      ['', /not JSON/],
      ['{', /not JSON/],
      ['null', /a transaction is/],
      ['{"compares":[],"writes":{}}', /a transaction is/],
      ['{"compares":[null],"writes":[]}', /"target" must be a string/],
      ['{"compares":[{"key":"a","target":"value","revision":0}],"writes":[]}', /compare target "value"/],
      [
        '{"compares":[{"key":"a","target":"created","revision":"0"}],"writes":[]}',
        /"revision" must be a number/,
      ],
      ['{"compares":[],"writes":[{"kind":"put","key":"a"}]}', /"value" must be a string/],
      ['{"compares":[],"writes":[{"kind":"move","key":"a"}]}', /kind of write "move"/],
      ['{"compares":[],"writes":[{"kind":"put","key":"","value":""}]}', /must not be empty/],
    ]
    for (const [body, message] of nonsense)
      await refused(await post('transact', body), 400, 'invalid', message)
    await refused(await post('lease/grant', '{"ttlMs":-1}'), 400, 'invalid', /-1 ms/)
    await refused(await post('lease/keepalive', '{"id":"7"}'), 404, 'lease_not_found', /lease 7/)
    await refused(await post('nothing', '{}'), 400, 'invalid', /POST \/api\/store\/nothing/)
    await refused(await fetch(`${server.url}/api/store/get`), 400, 'invalid', /must not be empty/)
    await refused(await fetch(`${server.url}/api/store/watch?from=x`), 400, 'invalid', /"from"/)
    assert.equal((await store.list('')).revision, 1)
  })

  it('does not read a body without end', async () => {
    const response = await post('transact', 'x'.repeat(5 * 1024 * 1024)).catch((cause: unknown) => cause)
    // The answer may be lost when the connection closes under a body that is still being sent.
    if (response instanceof Response) await refused(response, 400, 'invalid', /larger than/)
    else assert.ok(response instanceof Error)
  })

  it('ends its watches when it closes', async () => {
    const response = await fetch(`${server.url}/api/store/watch?prefix=&from=1`)
    const reader = response.body?.getReader()
    assert.deepEqual(await reader?.read(), { done: false, value: new TextEncoder().encode('{}\n') })
    await server.close()
    await assert.rejects(async () => {
      const next = await reader?.read()
      if (next?.done) throw new Error('ended')
    })
    server = await serveStore(store)
  })
})
