import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { md5Answer, md5AnswerFits, md5Secret, sameText } from './md5.ts'
import { deriveKeys, formatVerifier, makeVerifier, mockVerifier, verifierOf } from './scram.ts'
import {
  md5Fits,
  methodFor,
  methodsOf,
  passwordFits,
  readSecret,
  type Secret,
  scramVerifierFor,
  secretBytesMax,
  serverCredentials,
} from './secrets.ts'

const salt = Buffer.from([1, 2, 3, 4])

test('an md5 secret is the one of PostgreSQL and of PgBouncer', () => {
  assert.equal(md5Secret('md5u', 'md5 pw'), 'md57dce7fd2794947e678b6ba84d213ca17')
  assert.equal(md5Secret('admin', '1234'), 'md545f2603610af569b6155c45067268c6b')
})

test('an md5 answer fits its own secret and salt only', () => {
  fc.assert(
    fc.property(
      fc.string(),
      fc.string(),
      fc.uint8Array({ minLength: 4, maxLength: 4 }),
      (user, password, salt) => {
        const secret = md5Secret(user, password)
        const answer = Buffer.from(md5Answer(secret, salt))
        assert.equal(md5AnswerFits(secret, salt, answer), true)
        assert.equal(md5AnswerFits(md5Secret(user, `${password}x`), salt, answer), false)
        assert.equal(md5AnswerFits(secret, Buffer.from([salt[0]! ^ 1, 0, 0, 0]), answer), false)
        assert.equal(md5AnswerFits(secret, salt, answer.subarray(1)), false)
        // The stored secret itself opens nothing.
        assert.equal(md5AnswerFits(secret, salt, Buffer.from(secret)), false)
      },
    ),
  )
})

test('texts are the same only when they are', () => {
  assert.equal(sameText('abc', Buffer.from('abc')), true)
  assert.equal(sameText('abc', Buffer.from('abcd')), false)
  assert.equal(sameText('abc', Buffer.alloc(0)), false)
  assert.equal(sameText('\u00e9', Buffer.from('\u00e9')), true)
})

test('a secret is told by its form', async () => {
  const verifier = await makeVerifier('pencil', Buffer.from('salt'))
  assert.deepEqual(readSecret(formatVerifier(verifier)), { kind: 'scram', verifier })
  const md5 = md5Secret('ada', 'pencil')
  assert.deepEqual(readSecret(md5), { kind: 'md5', secret: md5 })
  for (const password of [
    'pencil',
    'md5',
    `${md5}0`,
    md5.toUpperCase(),
    md5.slice(0, -1),
    'scram-sha-256$',
    ' ',
  ]) {
    assert.deepEqual(readSecret(password), { kind: 'plain', password })
  }
})

test('a broken verifier is no password, nor is nothing, a zero byte or a novel', async () => {
  const stored = formatVerifier(await makeVerifier('pencil', Buffer.from('salt')))
  const texts = [stored.slice(0, -1), 'SCRAM-SHA-256$', '', 'a\0b', 'x'.repeat(secretBytesMax + 1)]
  for (const text of texts) assert.equal(readSecret(text), undefined)
})

async function secretsOf(user: string, password: string): Promise<Record<Secret['kind'], Secret>> {
  return {
    plain: { kind: 'plain', password },
    md5: { kind: 'md5', secret: md5Secret(user, password) },
    scram: { kind: 'scram', verifier: await makeVerifier(password, Buffer.from('salt')) },
  }
}

test('every kind of secret tells the right password from a wrong one', async () => {
  for (const secret of Object.values(await secretsOf('ada', 'pencil'))) {
    assert.equal(await passwordFits('ada', secret, Buffer.from('pencil')), true, secret.kind)
    assert.equal(await passwordFits('ada', secret, Buffer.from('pencil2')), false, secret.kind)
    assert.equal(await passwordFits('ada', secret, Buffer.alloc(0)), false, secret.kind)
  }
})

test('md5 works for a plain and an md5 secret', async () => {
  const secrets = await secretsOf('ada', 'pencil')
  const answer = Buffer.from(md5Answer(md5Secret('ada', 'pencil'), salt))
  assert.equal(md5Fits('ada', secrets.plain, salt, answer), true)
  assert.equal(md5Fits('ada', secrets.md5, salt, answer), true)
  assert.equal(md5Fits('ada', secrets.scram, salt, answer), false)
  assert.equal(md5Fits('bob', secrets.plain, salt, answer), false)
})

test('the methods of a secret, and the method that a rule becomes for it', async () => {
  const { plain, md5, scram } = await secretsOf('ada', 'pencil')
  assert.deepEqual(methodsOf(plain), ['password', 'md5', 'scram-sha-256'])
  assert.deepEqual(methodsOf(md5), ['password', 'md5'])
  assert.deepEqual(methodsOf(scram), ['password', 'scram-sha-256'])
  assert.equal(methodFor('md5', scram, 'md5'), 'scram-sha-256')
  assert.equal(methodFor('md5', md5, 'scram-sha-256'), 'md5')
  assert.equal(methodFor('md5', plain, 'scram-sha-256'), 'md5')
  assert.equal(methodFor('md5', undefined, 'scram-sha-256'), 'scram-sha-256')
  assert.equal(methodFor('md5', undefined, 'md5'), 'md5')
  assert.equal(methodFor('scram-sha-256', md5, 'md5'), 'scram-sha-256')
  assert.equal(methodFor('password', scram, 'md5'), 'password')
})

test('SCRAM runs with a stored verifier or with one made from a plain password, never from md5', async () => {
  const { plain, md5, scram } = await secretsOf('ada', 'pencil')
  const mockSecret = Buffer.alloc(32, 5)
  assert.equal(await scramVerifierFor('ada', scram, mockSecret), scram.kind === 'scram' && scram.verifier)
  assert.equal(await scramVerifierFor('ada', md5, mockSecret), undefined)
  assert.equal(await scramVerifierFor('ada', undefined, mockSecret), undefined)
  const { salt } = mockVerifier(mockSecret, 'ada')
  const made = await scramVerifierFor('ada', plain, mockSecret)
  assert.deepEqual(made, verifierOf(await deriveKeys('pencil', salt, 4096)))
})

test('what a server is logged in to with', async () => {
  const { plain, md5, scram } = await secretsOf('ada', 'pencil')
  const keys = await deriveKeys('pencil', Buffer.from('salt'), 4096)
  assert.deepEqual(serverCredentials(plain), { password: 'pencil', keys: undefined })
  assert.deepEqual(serverCredentials(plain, keys), { password: 'pencil', keys })
  assert.deepEqual(serverCredentials(md5), { md5: md5Secret('ada', 'pencil') })
  assert.deepEqual(serverCredentials(scram), { keys: undefined })
  assert.deepEqual(serverCredentials(scram, keys), { keys })
  assert.deepEqual(serverCredentials(undefined), { keys: undefined })
})
