import assert from 'node:assert/strict'
import { test } from 'node:test'
import { writePassword, writeSaslInitialResponse } from './client-messages.ts'
import { missesChannelBinding, withoutChannelBinding } from './pass-through.ts'

const sasl = (...names: string[]): Buffer =>
  Buffer.concat([Buffer.from([0, 0, 0, 10]), Buffer.from(`${names.map(name => `${name}\0`).join('')}\0`)])

test('the offer to bind the channel is taken out of the list, and nothing else is', () => {
  assert.deepEqual(withoutChannelBinding(sasl('SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256')), sasl('SCRAM-SHA-256'))
  const others = [sasl('SCRAM-SHA-256'), sasl('SCRAM-SHA-256-PLUS'), sasl('OAUTHBEARER', 'SCRAM-SHA-256')]
  for (const body of [
    ...others,
    Buffer.from([0, 0, 0, 5, 1, 2, 3, 4]),
    Buffer.from([0, 0]),
    Buffer.alloc(0),
  ]) {
    assert.deepEqual(withoutChannelBinding(body), body)
  }
})

test('a client that could bind the channel is told by its first answer', () => {
  const first = (header: string): Buffer =>
    writeSaslInitialResponse('SCRAM-SHA-256', Buffer.from(`${header}n=,r=nonce`))
  assert.equal(missesChannelBinding(first('y,,')), true)
  assert.equal(missesChannelBinding(first('n,,')), false)
  assert.equal(missesChannelBinding(first('p=tls-server-end-point,,')), false)
  // A password that looks like it, and what is no message at all.
  assert.equal(missesChannelBinding(writePassword('y,,')), false)
  assert.equal(missesChannelBinding(Buffer.alloc(0)), false)
})
