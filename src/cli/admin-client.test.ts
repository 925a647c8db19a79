import assert from 'node:assert/strict'
import { test } from 'node:test'
import { recordingIo } from '../../test/support/command.ts'
import { loaded } from '../../test/support/config.ts'
import { freePorts } from '../../test/support/ports.ts'
import { adminAddress, askAdmin, NoAnswer, networkReason } from './admin-client.ts'

test('the address is the named one, that of the variable, or where the configuration listens', () => {
  const { admin } = loaded('admin: {listen: 0.0.0.0, port: 9000, token: t}')
  const io = recordingIo({ env: { PGHERD_ADMIN_URL: 'http://v:1/' } })
  assert.deepEqual(adminAddress(io, 'http://n:2', admin), { url: 'http://n:2', token: 't' })
  assert.deepEqual(adminAddress(io, undefined, admin), { url: 'http://v:1', token: 't' })
  assert.equal(adminAddress(recordingIo(), undefined, admin)?.url, 'http://127.0.0.1:9000')
  const six = loaded('admin: {listen: "::1"}').admin
  assert.equal(adminAddress(recordingIo(), undefined, six)?.url, 'http://[::1]:8432')
  assert.equal(adminAddress(recordingIo(), undefined, loaded('admin: {port: 0}').admin), undefined)
  for (const wrong of ['127.0.0.1:8432', 'ftp://x', 'http://']) {
    assert.throws(() => adminAddress(io, wrong, admin), { code: 'usage' }, wrong)
  }
})

test('nobody there is one sentence with a hint', async () => {
  const [port] = await freePorts(1)
  const url = `http://127.0.0.1:${port}`
  await assert.rejects(askAdmin({ url, token: undefined }, '/api/topology'), (error: unknown) => {
    assert.ok(error instanceof NoAnswer)
    assert.equal(error.message, `no pgherd answers at ${url} (connection refused)`)
    assert.match(error.hint ?? '', /--admin-url/)
    return true
  })
})

test('the reason is what the innermost known error says', () => {
  const refused = Object.assign(new Error('connect'), { code: 'ECONNREFUSED' })
  assert.equal(
    networkReason(new Error('a', { cause: new Error('b', { cause: refused }) })),
    'connection refused',
  )
  assert.equal(networkReason(new DOMException('x', 'TimeoutError')), 'no answer in time')
  assert.equal(networkReason(new Error('a', { cause: new Error('only this') })), 'only this')
  assert.equal(networkReason('text'), 'text')
})
