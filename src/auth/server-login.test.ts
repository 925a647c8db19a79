import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import * as fc from 'fast-check'
import { seededRandom } from '../runtime/random.ts'
import { readPassword, readSaslInitialResponse } from './client-messages.ts'
import { md5Answer, md5Secret } from './md5.ts'
import { deriveKeys, type ScramKeys, verifierOf } from './scram.ts'
import { ScramServer, type ServerChannelBinding, scramMechanisms } from './scram-server.ts'
import { ServerLogin, type ServerLoginOptions, type ServerLoginStep } from './server-login.ts'

const endPoint = Buffer.alloc(32, 0xcb)
const offered: ServerChannelBinding = { kind: 'offered', data: endPoint }
const none: ServerChannelBinding = { kind: 'none' }
let keys: ScramKeys

before(async () => {
  keys = await deriveKeys('pencil', Buffer.from('the salt of ada.'), 4096)
})

function message(type: number, rest: Buffer | string = ''): Buffer {
  const word = Buffer.alloc(4)
  word.writeUInt32BE(type, 0)
  return Buffer.concat([word, Buffer.from(rest as string)])
}

const ok = message(0)
const sasl = (...mechanisms: string[]) => message(10, `${mechanisms.map(name => `${name}\0`).join('')}\0`)

function loginOf(options: Partial<ServerLoginOptions> = {}): ServerLogin {
  return new ServerLogin({
    user: 'ada',
    credentials: { password: 'pencil' },
    tls: undefined,
    cleartextAllowed: false,
    random: seededRandom(1),
    ...options,
  })
}

function codeOf(step: ServerLoginStep): string {
  return step.kind === 'failed' ? step.code : step.kind
}

function sent(step: ServerLoginStep): Buffer {
  assert.ok(step.kind === 'send', JSON.stringify(step))
  return step.body
}

test('a server that asks nothing is fine', async () => {
  assert.deepEqual(await loginOf({ credentials: {} }).receive(ok), { kind: 'done', keys: undefined })
})

test('md5 is answered from the password and from the stored secret alike', async () => {
  const stored = md5Secret('ada', 'pencil')
  for (const credentials of [{ password: 'pencil' }, { md5: stored }]) {
    const login = loginOf({ credentials })
    const body = sent(await login.receive(message(5, Buffer.from([1, 2, 3, 4]))))
    assert.equal(readPassword(body)?.toString(), md5Answer(stored, Buffer.from([1, 2, 3, 4])))
    assert.equal(codeOf(await login.receive(ok)), 'done')
  }
})

test('a password goes in clear over TLS or where it is allowed, and nowhere else', async () => {
  for (const options of [{ tls: { binding: undefined } }, { cleartextAllowed: true }]) {
    const login = loginOf(options)
    assert.equal(readPassword(sent(await login.receive(message(3))))?.toString(), 'pencil')
    assert.equal(codeOf(await login.receive(ok)), 'done')
  }
  assert.equal(codeOf(await loginOf().receive(message(3))), 'cleartext_refused')
})

/** Plays the server of a SCRAM login; returns the last step and the mechanism that was used. */
async function scram(
  login: ServerLogin,
  binding = none,
  offer = scramMechanisms(binding),
): Promise<{ step: ServerLoginStep; mechanism: string | undefined }> {
  const first = await login.receive(sasl(...offer))
  if (first.kind !== 'send') return { step: first, mechanism: undefined }
  const { mechanism, data } = readSaslInitialResponse(first.body)!
  const server = new ScramServer({
    user: 'ada',
    verifier: verifierOf(keys),
    mockSecret: Buffer.alloc(32),
    mechanism,
    channelBinding: binding,
    random: seededRandom(2),
  })
  const challenge = server.receive(data)
  if (challenge.kind !== 'challenge') return { step: { ...first, kind: 'wait' }, mechanism }
  const second = await login.receive(message(11, challenge.body))
  if (second.kind !== 'send') return { step: second, mechanism }
  const end = server.receive(second.body)
  assert.ok(end.kind === 'success', JSON.stringify(end))
  assert.equal(codeOf(await login.receive(message(12, end.body))), 'wait')
  return { step: await login.receive(ok), mechanism }
}

test('SCRAM with a password, or with the keys of an earlier login', async () => {
  for (const credentials of [{ password: 'pencil' }, { keys }, { password: 'wrong', keys }]) {
    const { step } = await scram(loginOf({ credentials }))
    assert.deepEqual(step, { kind: 'done', keys })
  }
})

test('the channel is bound wherever both sides can', async () => {
  const bound = { tls: { binding: endPoint } }
  const unbound = { tls: { binding: undefined } }
  assert.equal((await scram(loginOf(bound), offered)).mechanism, 'SCRAM-SHA-256-PLUS')
  assert.equal((await scram(loginOf(unbound), offered)).mechanism, 'SCRAM-SHA-256')
  assert.equal((await scram(loginOf(bound), none)).mechanism, 'SCRAM-SHA-256')
  assert.equal((await scram(loginOf(), none)).mechanism, 'SCRAM-SHA-256')
})

test('a server whose offer of channel binding was taken away on the way refuses, as it is told', async () => {
  const login = loginOf({ tls: { binding: endPoint } })
  const body = sent(await login.receive(sasl('SCRAM-SHA-256')))
  assert.match(readSaslInitialResponse(body)!.data!.toString(), /^y,,/)
})

test('channel binding without TLS is somebody in between', async () => {
  const step = await loginOf().receive(sasl('SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'))
  assert.equal(codeOf(step), 'channel_binding')
})

test('AuthenticationOk in the middle of SCRAM is refused: the server has proven nothing', async () => {
  const early = loginOf()
  sent(await early.receive(sasl('SCRAM-SHA-256')))
  assert.equal(codeOf(await early.receive(ok)), 'server_unproven')

  const late = loginOf()
  const { data } = readSaslInitialResponse(sent(await late.receive(sasl('SCRAM-SHA-256'))))!
  const nonce = data!.toString().split('r=')[1]!
  sent(await late.receive(message(11, `r=${nonce}x,s=YQ==,i=4096`)))
  assert.equal(codeOf(await late.receive(ok)), 'server_unproven')
  assert.equal(codeOf(await late.receive(ok)), 'protocol')
})

test('a server that asks a second time gets nothing', async () => {
  for (const first of [message(5, 'salt'), sasl('SCRAM-SHA-256')]) {
    for (const second of [message(3), message(5, 'salt'), sasl('SCRAM-SHA-256')]) {
      const login = loginOf({ cleartextAllowed: true })
      sent(await login.receive(first))
      assert.equal(codeOf(await login.receive(second)), 'protocol')
    }
  }
})

test('methods that pgherd does not have are named', async () => {
  for (const [type, name] of [
    [2, 'Kerberos 5'],
    [7, 'GSSAPI'],
    [9, 'SSPI'],
    [99, 'method 99'],
  ] as const) {
    const step = await loginOf().receive(message(type))
    assert.ok(step.kind === 'failed')
    assert.equal(step.code, 'unsupported_method')
    assert.match(step.message, new RegExp(name))
  }
  assert.equal(codeOf(await loginOf().receive(sasl('OAUTHBEARER'))), 'unsupported_method')
})

test('what cannot be answered from what is stored is said, without showing it', async () => {
  const md5 = md5Secret('ada', 'pencil')
  const cases: [ServerLoginOptions['credentials'], Buffer, string][] = [
    [{ md5 }, sasl('SCRAM-SHA-256'), 'no_credentials'],
    [{ md5 }, message(3), 'no_credentials'],
    [{ keys }, message(5, 'salt'), 'no_credentials'],
    [{ keys }, message(3), 'no_credentials'],
    [{}, sasl('SCRAM-SHA-256'), 'no_credentials'],
  ]
  for (const [credentials, request, code] of cases) {
    const step = await loginOf({ credentials, cleartextAllowed: true }).receive(request)
    assert.equal(codeOf(step), code)
    assert.doesNotMatch(JSON.stringify(step), new RegExp(`pencil|${md5}`))
  }
})

test('messages that are broken, out of turn or under the wrong type end the login', async () => {
  const broken = [
    Buffer.alloc(0),
    Buffer.alloc(3),
    message(5, 'sal'),
    message(5, 'salty'),
    message(10, 'SCRAM-SHA-256'),
    message(10, 'SCRAM-SHA-256\0'),
    message(10, ''),
    message(11, 'r=a,s=YQ==,i=4096'),
    message(12, 'v=AAAA'),
    message(0, 'more'),
    message(10, Buffer.alloc(5000)),
  ]
  for (const body of broken)
    assert.equal(codeOf(await loginOf().receive(body)), 'protocol', body.toString('hex', 0, 20))

  const login = loginOf()
  const { data } = readSaslInitialResponse(sent(await login.receive(sasl('SCRAM-SHA-256'))))!
  const challenge = `r=${data!.toString().split('r=')[1]!}x,s=YQ==,i=4096`
  assert.equal(codeOf(await login.receive(message(12, challenge))), 'protocol')
})

test('a server that does not wait while the password is hashed ends the login', async () => {
  const login = loginOf()
  const { data } = readSaslInitialResponse(sent(await login.receive(sasl('SCRAM-SHA-256'))))!
  const challenge = message(11, `r=${data!.toString().split('r=')[1]!}x,s=YQ==,i=4096`)
  const steps = await Promise.all([login.receive(challenge), login.receive(ok)])
  assert.deepEqual(steps.map(codeOf), ['protocol', 'protocol'])
})

test('no random server gets anywhere', async () => {
  const bodies = fc.oneof(
    fc
      .tuple(fc.integer({ min: 1, max: 13 }), fc.uint8Array({ maxLength: 20 }))
      .map(([type, rest]) => message(type, Buffer.from(rest))),
    fc.uint8Array({ maxLength: 12 }).map(bytes => Buffer.from([1, ...bytes])),
    fc.constant(sasl('SCRAM-SHA-256')),
    fc.constant(message(11, 'r=a,s=YQ==,i=4096')),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(bodies, { maxLength: 6 }), async messages => {
      const login = loginOf({ credentials: { keys }, tls: { binding: endPoint } })
      for (const body of messages) assert.notEqual((await login.receive(body)).kind, 'done')
    }),
    { numRuns: 300 },
  )
})
