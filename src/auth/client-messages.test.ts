import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  readPassword,
  readSaslInitialResponse,
  writePassword,
  writeSaslInitialResponse,
} from './client-messages.ts'

test('a password is read back as it was written', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 50 }), bytes => {
      const password = bytes.filter(byte => byte !== 0)
      assert.deepEqual(readPassword(writePassword(password)), Buffer.from(password))
    }),
  )
  assert.deepEqual(readPassword(writePassword('\u00e9')), Buffer.from('\u00e9'))
})

test('a password message must be one string', () => {
  for (const text of ['', 'pencil', 'pen\0cil\0', 'pencil\0\0', `${'x'.repeat(70_000)}\0`]) {
    assert.equal(readPassword(Buffer.from(text)), undefined)
  }
})

test('a SASLInitialResponse is read back as it was written', () => {
  fc.assert(
    fc.property(
      fc.stringMatching(/^[A-Z0-9-]{1,20}$/),
      fc.uint8Array({ maxLength: 50 }),
      (mechanism, bytes) => {
        const data = Buffer.from(bytes)
        assert.deepEqual(readSaslInitialResponse(writeSaslInitialResponse(mechanism, data)), {
          mechanism,
          data,
        })
      },
    ),
  )
})

test('a response that was left out is not an empty one', () => {
  const body = Buffer.concat([Buffer.from('SCRAM-SHA-256\0'), Buffer.from([0xff, 0xff, 0xff, 0xff])])
  assert.deepEqual(readSaslInitialResponse(body), { mechanism: 'SCRAM-SHA-256', data: undefined })
})

test('lengths that contradict each other are refused', () => {
  const good = writeSaslInitialResponse('SCRAM-SHA-256', Buffer.from('data'))
  for (let length = 0; length < good.length; length++) {
    assert.equal(readSaslInitialResponse(good.subarray(0, length)), undefined)
  }
  assert.equal(readSaslInitialResponse(Buffer.concat([good, Buffer.from('x')])), undefined)
  for (const length of [-2, -1, 0, 5, 0x7fffffff, -0x80000000]) {
    const body = Buffer.from(good)
    body.writeInt32BE(length, 'SCRAM-SHA-256'.length + 1)
    assert.equal(readSaslInitialResponse(body), undefined, `${length}`)
  }
  assert.equal(readSaslInitialResponse(writeSaslInitialResponse('X'.repeat(65), Buffer.alloc(0))), undefined)
})
