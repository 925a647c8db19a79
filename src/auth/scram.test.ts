import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  decodeBase64,
  deriveKeys,
  formatVerifier,
  hmac,
  makeVerifier,
  mockVerifier,
  parseVerifier,
  passwordFitsVerifier,
  scramIterationsMax,
  sha256,
  verifierOf,
  xor,
} from './scram.ts'

/** Made by PostgreSQL for the passwords below. */
const fromPostgres = [
  [
    'pencil',
    'SCRAM-SHA-256$4096:nqmVpCa2fBWyqiK3tKseYA==$' +
      'a5H3Gprq/oJI4IadD5Qcp6k8Iu+t7sp2wcs2saM1QyE=:ac2dP92VcQJiNhujRm4uw2Sz3USHQ0c+AFhKV5xk6cc=',
  ],
  [
    'e\u0301 \u2168\u00a0x',
    'SCRAM-SHA-256$4096:w0vcjBf6YM2LbK2PfNTEnQ==$' +
      'qFrzUwc9gKQPNLs/iejfC+/GZn4MGlnVD3I9BfgllWo=:8o5FC4b2zf7u9o8e5lirB3tmCknK3Z1W2khJw0bm4z4=',
  ],
] as const

test('the exchange of RFC 7677, section 3', async () => {
  const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64')
  const nonce = 'rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0'
  const signed = `n=user,r=rOprNGfwEbeRWgbNEkqO,r=${nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=${nonce}`
  const { clientKey, serverKey } = await deriveKeys('pencil', salt, 4096)
  const proof = xor(clientKey, hmac(sha256(clientKey), signed))
  assert.equal(proof.toString('base64'), 'dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=')
  assert.equal(hmac(serverKey, signed).toString('base64'), '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=')
})

test('a verifier is what PostgreSQL makes of the same password, salt and count', async () => {
  for (const [password, stored] of fromPostgres) {
    const verifier = parseVerifier(stored)
    assert.ok(verifier)
    const made = await makeVerifier(password, verifier.salt, verifier.iterations)
    assert.equal(formatVerifier(made), stored)
    assert.equal(await passwordFitsVerifier(verifier, password), true)
    assert.equal(await passwordFitsVerifier(verifier, `${password} `), false)
  }
})

const verifiers = fc
  .record({
    iterations: fc.integer({ min: 1, max: scramIterationsMax }),
    salt: fc.uint8Array({ minLength: 1, maxLength: 64 }),
    clientKey: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    serverKey: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  })
  .map(({ iterations, salt, clientKey, serverKey }) =>
    verifierOf({
      iterations,
      salt: Buffer.from(salt),
      clientKey: Buffer.from(clientKey),
      serverKey: Buffer.from(serverKey),
    }),
  )

test('a verifier is read back as it was written', () => {
  fc.assert(
    fc.property(verifiers, verifier => {
      assert.deepEqual(parseVerifier(formatVerifier(verifier)), verifier)
    }),
  )
})

test('what is not a verifier is not read', () => {
  const good = fromPostgres[0][1]
  const broken = [
    '',
    'pencil',
    good.slice(1),
    good.slice(0, -1),
    `${good} `,
    `${good}\n`,
    good.replace('4096', '0'),
    good.replace('4096', '-1'),
    good.replace('4096', '04096'),
    good.replace('4096', `${scramIterationsMax + 1}`),
    good.replace('4096', '99999999999999999999'),
    good.replace('nqmVpCa2fBWyqiK3tKseYA==', 'nqmVpCa2fBWyqiK3tKseYA'),
    good.replace('nqmVpCa2fBWyqiK3tKseYA==', Buffer.alloc(1000).toString('base64')),
    good.replace('a5H3Gprq', 'a5H3'),
    good.replace('a5H3Gprq', 'a5H3!prq'),
    good.replace('SCRAM-SHA-256', 'SCRAM-SHA-1'),
  ]
  for (const text of broken) assert.equal(parseVerifier(text), undefined, text)
})

test('base64 is taken only as it would be written', () => {
  assert.deepEqual(decodeBase64('TWE='), Buffer.from('Ma'))
  for (const text of ['', 'TWE', 'TWF=', 'TW=E', 'TWE= ', 'T WE=', 'TWE_', '====', 'TWE=\n']) {
    assert.equal(decodeBase64(text), undefined, JSON.stringify(text))
  }
})

test('a made-up user has the same salt at every attempt, and each name another one', () => {
  const secret = Buffer.alloc(32, 7)
  assert.deepEqual(mockVerifier(secret, 'ada'), mockVerifier(secret, 'ada'))
  assert.notDeepEqual(mockVerifier(secret, 'ada').salt, mockVerifier(secret, 'bob').salt)
  assert.notDeepEqual(mockVerifier(secret, 'ada').salt, mockVerifier(Buffer.alloc(32, 8), 'ada').salt)
  assert.equal(mockVerifier(secret, 'ada').salt.length, 16)
})
