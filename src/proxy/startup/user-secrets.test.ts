import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { md5Secret } from '../../auth/md5.ts'
import { makeVerifier } from '../../auth/scram.ts'
import { passwordFits, type Secret } from '../../auth/secrets.ts'
import { type AskSecret, UserSecrets } from './user-secrets.ts'

const mockSecret = Buffer.alloc(32, 7)
const plain: Secret = { kind: 'plain', password: 'chalk' }
let time: FakeTime
let asked: string[]
let answers: Map<string, Secret | Error>

beforeEach(() => {
  time = new FakeTime()
  asked = []
  answers = new Map()
})

const ask: AskSecret = (user, database) => {
  asked.push(`${user}@${database}`)
  const answer = answers.get(user)
  return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer)
}

const secretsOf = (known: [string, Secret | undefined][], asker: AskSecret | undefined = ask) =>
  new UserSecrets({ known: new Map(known), ask: asker, mockSecret, clock: time })

test('the users file comes first, also for a user who has no secret in it', async () => {
  const secrets = secretsOf([
    ['cleo', plain],
    ['nologin', undefined],
  ])
  assert.equal(await secrets.find('cleo', 'shop'), plain)
  assert.equal(await secrets.find('nologin', 'shop'), undefined)
  assert.deepEqual(asked, [])
  assert.equal(await secretsOf([], undefined).find('cleo', 'shop'), undefined)
})

test('an answer counts for seconds, and is forgotten after a failed login', async () => {
  answers.set('ada', plain)
  const secrets = secretsOf([])
  assert.equal(await secrets.find('ada', 'shop'), plain)
  assert.equal(await secrets.find('ada', 'other'), plain)
  assert.deepEqual(asked, ['ada@shop'])
  await time.pass(5000)
  await secrets.find('ada', 'shop')
  assert.equal(asked.length, 2)
  secrets.forget('ada')
  await secrets.find('ada', 'shop')
  assert.equal(asked.length, 3)
})

test('that a user is not known counts for as long', async () => {
  const secrets = secretsOf([])
  await secrets.find('nobody', 'shop')
  await secrets.find('nobody', 'shop')
  assert.equal(asked.length, 1)
})

test('a failure is not kept', async () => {
  answers.set('ada', new Error('nobody answers'))
  const secrets = secretsOf([])
  await assert.rejects(secrets.find('ada', 'shop'), /nobody answers/)
  answers.set('ada', plain)
  assert.equal(await secrets.find('ada', 'shop'), plain)
})

test('a plain password is hashed once', async () => {
  const secrets = secretsOf([['cleo', plain]])
  const verifier = await secrets.verifier('cleo', plain)
  assert.ok(verifier)
  assert.equal(await secrets.verifier('cleo', plain), verifier)
  assert.notEqual(await secrets.verifier('cleo', { kind: 'plain', password: 'chalk' }), verifier)
})

test('SCRAM is done with the stored verifier, and not at all with md5 or nothing', async () => {
  const verifier = await makeVerifier('pencil', Buffer.from('a salt of sixteen'))
  const secrets = secretsOf([['cleo', plain]])
  assert.equal(await secrets.verifier('ada', { kind: 'scram', verifier }), verifier)
  const md5: Secret = { kind: 'md5', secret: md5Secret('bob', 'brush') }
  assert.equal(await secrets.verifier('bob', md5), undefined)
  assert.equal(await secrets.verifier('nobody', undefined), undefined)
})

test('what is usual is what most users have', async () => {
  const md5: Secret = { kind: 'md5', secret: md5Secret('bob', 'brush') }
  const scram: Secret = { kind: 'scram', verifier: await makeVerifier('x', Buffer.from('salt')) }
  const usual = (known: [string, Secret][], asker?: AskSecret) =>
    new UserSecrets({ known: new Map(known), ask: asker, mockSecret, clock: time }).usual
  assert.equal(usual([['bob', md5]]), 'md5')
  assert.equal(usual([['ada', scram]]), 'scram-sha-256')
  assert.equal(usual([['bob', md5]], ask), 'scram-sha-256')
})

test('the secret of nobody never fits', async () => {
  const scramLike = secretsOf([])
  assert.equal(await passwordFits('nobody', scramLike.mock('nobody'), Buffer.from('')), false)
  assert.equal(scramLike.mock('nobody').kind, 'scram')
})
