import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { until } from '../../../test/support/wait.ts'
import { readSaslInitialResponse, writeSaslInitialResponse } from '../../auth/client-messages.ts'
import { deriveKeys, type ScramKeys, verifierOf } from '../../auth/scram.ts'
import { ScramServer } from '../../auth/scram-server.ts'
import { ServerLogin } from '../../auth/server-login.ts'
import { seededRandom } from '../../runtime/random.ts'
import {
  authenticationOk,
  frame,
  readErrorFields,
  readyForQueryIdle,
  writeBackendKeyData,
  writeErrorResponse,
  writeParameterStatus,
} from '../../wire/messages.ts'
import { LoginConversation, type LoginEvents, type LoginFailure } from './conversations.ts'

let keys: ScramKeys

before(async () => {
  keys = await deriveKeys('pencil', Buffer.from('the salt of ada.'), 4096)
})

function authentication(type: number, data: Buffer | string): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(type, 0)
  return frame(0x52, Buffer.concat([head, Buffer.from(data as string)]))
}

interface Login {
  conversation: LoginConversation
  /** What happened, in order. */
  seen: string[]
  sent: Buffer[]
  failure: LoginFailure | undefined
}

/** A login whose `held` bytes are pushed back as the events want it. */
function loginWith(password: string | undefined): Login {
  const login: Login = { conversation: undefined as never, seen: [], sent: [], failure: undefined }
  const events: LoginEvents = {
    onChallenge: body => {
      login.seen.push('challenge')
      login.sent.push(body)
    },
    onAnswer: message => {
      login.seen.push('answer')
      login.sent.push(message)
    },
    onAnswered: held => {
      login.conversation.push(held)
    },
    onKeys: () => login.seen.push('keys'),
    onNotice: () => login.seen.push('notice'),
    onParameter: name => login.seen.push(name),
    onKey: processId => login.seen.push(`key ${processId}`),
    onRefused: failure => {
      login.failure = failure
      login.seen.push('refused')
    },
    onReady: () => login.seen.push('ready'),
  }
  const logIn = () =>
    new ServerLogin({
      user: 'ada',
      credentials: { password },
      tls: undefined,
      cleartextAllowed: false,
      random: seededRandom(1),
    })
  login.conversation = new LoginConversation(events, password === undefined ? undefined : logIn)
  return login
}

const greeting = [
  authenticationOk,
  writeParameterStatus('TimeZone', 'UTC'),
  writeBackendKeyData(7, Buffer.alloc(4)),
  readyForQueryIdle,
]
const offer = authentication(10, 'SCRAM-SHA-256\0\0')
const expected = ['answer', 'answer', 'keys', 'TimeZone', 'key 7', 'ready']

/** Plays the server; its last message and the greeting come together, cut at `split`. */
async function scramWith(login: Login, split: number | undefined): Promise<void> {
  const { conversation, sent } = login
  conversation.push(offer)
  const first = await until('the first answer', () => sent[0])
  const { data, mechanism } = readSaslInitialResponse(first.subarray(5))!
  const server = new ScramServer({
    user: 'ada',
    verifier: verifierOf(keys),
    mockSecret: Buffer.alloc(32),
    mechanism,
    channelBinding: { kind: 'none' },
    random: seededRandom(2),
  })
  const challenge = server.receive(data)
  assert.ok(challenge.kind === 'challenge')
  conversation.push(authentication(11, challenge.body))
  const second = await until('the second answer', () => sent[1])
  const final = server.receive(second.subarray(5))
  assert.ok(final.kind === 'success')
  const rest = Buffer.concat([authentication(12, final.body), ...greeting])
  if (split === undefined) for (const byte of rest) conversation.push(Buffer.from([byte]))
  else {
    conversation.push(rest.subarray(0, split))
    conversation.push(rest.subarray(split))
  }
  await until('the end', () => login.seen.at(-1) === 'ready' || login.seen.at(-1) === 'refused')
}

test('what comes while an answer is worked out is read after it, in order, however it is cut', async () => {
  for (const split of [undefined, 0, 1, 4, 5, 60, 70, 80, 100]) {
    const login = loginWith('pencil')
    await scramWith(login, split)
    assert.deepEqual(login.seen, expected, `cut at ${split}`)
    assert.equal(login.conversation.answered, true)
    assert.equal(login.conversation.challenged, false)
  }
})

test('a server that lets in without the proof that it owes is left', async () => {
  const login = loginWith('pencil')
  login.conversation.push(offer)
  await until('the first answer', () => login.sent[0])
  login.conversation.push(Buffer.concat(greeting))
  await until('the end', () => login.failure)
  assert.deepEqual(login.seen, ['answer', 'refused'])
  assert.ok(login.failure?.kind === 'refused')
  assert.match(
    readErrorFields(login.failure.body).get('M') ?? '',
    /without the proof that it knows the secret/,
  )
})

test('a server that asks nothing is fine, and its own refusal is passed on', async () => {
  const trusting = loginWith('pencil')
  trusting.conversation.push(Buffer.concat(greeting))
  await until('the end', () => trusting.seen.includes('ready'))
  assert.equal(trusting.conversation.answered, false)
  const refusing = loginWith('pencil')
  refusing.conversation.push(writeErrorResponse({ severity: 'FATAL', code: '28P01', message: 'no' }))
  assert.deepEqual(refusing.seen, ['refused'])
})

test('a server that talks on without waiting is left before it fills the memory', () => {
  const { conversation } = loginWith('pencil')
  conversation.push(offer)
  for (let i = 0; i < 20; i++) conversation.push(Buffer.alloc(64 * 1024))
  assert.match(conversation.problem ?? '', /does not wait for the answer/)
})

test('a challenge that is passed on offers no channel binding, and one that would have used it is refused', () => {
  const login = loginWith(undefined)
  login.conversation.push(authentication(10, 'SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0'))
  assert.equal(login.sent[0]?.toString('latin1', 4), 'SCRAM-SHA-256\0\0')
  const first = (header: string) => writeSaslInitialResponse('SCRAM-SHA-256', Buffer.from(`${header}n=,r=x`))
  assert.equal(login.conversation.mayAnswer(first('n,,')), true)
  assert.equal(login.conversation.mayAnswer(first('y,,')), false)
  assert.ok(login.failure?.kind === 'refused')
  assert.match(readErrorFields(login.failure.body).get('H') ?? '', /channel_binding=disable/)
  const plain = loginWith(undefined)
  plain.conversation.push(offer)
  assert.equal(plain.conversation.mayAnswer(first('y,,')), true)
})
