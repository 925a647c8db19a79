import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import * as fc from 'fast-check'
import { seededRandom } from '../runtime/random.ts'
import { deriveKeys, type ScramKeys, type ScramVerifier, verifierOf } from './scram.ts'
import { type ClientChannelBinding, ScramClient, type ScramClientStep } from './scram-client.ts'
import {
  ScramServer,
  type ScramServerStep,
  type ServerChannelBinding,
  scramMechanisms,
} from './scram-server.ts'

const endPoint = Buffer.alloc(32, 0xcb)
const offered: ServerChannelBinding = { kind: 'offered', data: endPoint }
const none = { kind: 'none' } as const
const plus = 'SCRAM-SHA-256-PLUS'
const salt = Buffer.from('the salt of ada.')
let keys: ScramKeys
let verifier: ScramVerifier

before(async () => {
  keys = await deriveKeys('pencil', salt, 4096)
  verifier = verifierOf(keys)
})

function serverOf(options: Partial<ConstructorParameters<typeof ScramServer>[0]> = {}): ScramServer {
  return new ScramServer({
    user: 'ada',
    verifier,
    mockSecret: Buffer.alloc(32, 1),
    mechanism: 'SCRAM-SHA-256',
    channelBinding: none,
    random: seededRandom(1),
    ...options,
  })
}

function clientOf(options: Partial<ConstructorParameters<typeof ScramClient>[0]> = {}): ScramClient {
  return new ScramClient({
    password: undefined,
    keys,
    channelBinding: none,
    random: seededRandom(2),
    ...options,
  })
}

function expectStep<S extends { kind: string }, K extends S['kind']>(
  step: S,
  kind: K,
): Extract<S, { kind: K }> {
  assert.equal(step.kind, kind, JSON.stringify(step))
  return step as Extract<S, { kind: K }>
}

function codeOf(step: ScramServerStep | ScramClientStep): string {
  return step.kind === 'failed' ? step.code : step.kind
}

async function run(client: ScramClient, server: ScramServer): Promise<[ScramServerStep, ScramClientStep?]> {
  const challenge = server.receive(client.start())
  if (challenge.kind !== 'challenge') return [challenge]
  const response = await client.receive(challenge.body)
  if (response.kind !== 'response') return [challenge, response]
  const end = server.receive(response.body)
  return end.kind === 'success' ? [end, await client.receive(end.body)] : [end]
}

test('a password logs in and both sides hold the same keys', async () => {
  const [server, client] = await run(clientOf({ password: 'pencil', keys: undefined }), serverOf())
  assert.deepEqual(expectStep(server, 'success').keys, keys)
  assert.deepEqual(expectStep(client!, 'verified').keys, keys)
})

test('keys from a login of the client open the server behind, without a password', async () => {
  const [first] = await run(clientOf({ password: 'pencil', keys: undefined }), serverOf())
  const recovered = expectStep(first, 'success').keys
  const [second, client] = await run(clientOf({ keys: recovered, random: seededRandom(3) }), serverOf())
  expectStep(second, 'success')
  expectStep(client!, 'verified')
})

test('keys for another salt or count are not tried; a password takes over', async () => {
  const other = await deriveKeys('pencil', Buffer.from('another salt'), 4096)
  const [, refused] = await run(clientOf(), serverOf({ verifier: verifierOf(other) }))
  assert.equal(codeOf(refused!), 'keys_do_not_fit')
  const [done, client] = await run(
    clientOf({ password: 'pencil' }),
    serverOf({ verifier: verifierOf(other) }),
  )
  expectStep(done, 'success')
  assert.deepEqual(expectStep(client!, 'verified').keys, other)
})

test('a wrong password and an unknown user look the same', async () => {
  const [wrong] = await run(clientOf({ password: 'pen', keys: undefined }), serverOf())
  const [unknown] = await run(
    clientOf({ password: 'pen', keys: undefined }),
    serverOf({ verifier: undefined }),
  )
  assert.equal(codeOf(wrong), 'wrong_password')
  assert.deepEqual(unknown, wrong)
})

test('an unknown user is challenged like a known one, every time with the same salt', () => {
  const shape = /^r=([^,]+),s=([A-Za-z0-9+/]{22}==),i=4096$/
  const challenges = [
    serverOf({ verifier: undefined }),
    serverOf({ verifier: undefined, random: seededRandom(9) }),
  ]
    .map(server => expectStep(server.receive(clientOf().start()), 'challenge').body.toString())
    .map(text => shape.exec(text))
  assert.equal(challenges[0]?.[2], challenges[1]?.[2])
  assert.notEqual(challenges[0]?.[1], challenges[1]?.[1])
  assert.match(expectStep(serverOf().receive(clientOf().start()), 'challenge').body.toString(), shape)
})

test('the stored key of a made-up user, all zeros, lets nobody in', async () => {
  const guess = { ...keys, clientKey: Buffer.alloc(32) }
  const server = serverOf({ verifier: undefined })
  const challenge = expectStep(server.receive(clientOf().start()), 'challenge')
  const madeUp = Buffer.from(/s=([^,]+)/.exec(challenge.body.toString())![1]!, 'base64')
  const client = clientOf({ keys: { ...guess, salt: madeUp } })
  client.start()
  const response = expectStep(await client.receive(challenge.body), 'response')
  assert.equal(codeOf(server.receive(response.body)), 'wrong_password')
})

test('channel binding: each side of each kind', async () => {
  const cases: [ClientChannelBinding, ServerChannelBinding, mechanism: string, outcome: string][] = [
    [{ kind: 'bound', data: endPoint }, offered, plus, 'success'],
    [{ kind: 'none' }, offered, 'SCRAM-SHA-256', 'success'],
    [{ kind: 'unused' }, none, 'SCRAM-SHA-256', 'success'],
    // Somebody took PLUS out of what the server offered.
    [{ kind: 'unused' }, offered, 'SCRAM-SHA-256', 'channel_binding'],
    // Somebody in the middle has a certificate of his own.
    [{ kind: 'bound', data: Buffer.alloc(32) }, offered, plus, 'channel_binding'],
    [{ kind: 'bound', data: endPoint }, none, plus, 'malformed'],
    [{ kind: 'bound', data: endPoint }, offered, 'SCRAM-SHA-256', 'channel_binding'],
    [{ kind: 'none' }, offered, plus, 'channel_binding'],
    [{ kind: 'unused' }, offered, plus, 'channel_binding'],
    [{ kind: 'none' }, offered, 'SCRAM-SHA-1', 'malformed'],
  ]
  for (const [client, server, mechanism, outcome] of cases) {
    const [step] = await run(
      clientOf({ channelBinding: client }),
      serverOf({ channelBinding: server, mechanism }),
    )
    assert.equal(codeOf(step), outcome, `${client.kind} ${server.kind} ${mechanism}`)
  }
  assert.deepEqual(scramMechanisms(offered), [plus, 'SCRAM-SHA-256'])
  assert.deepEqual(scramMechanisms(none), ['SCRAM-SHA-256'])
})

test('a first message of a client: what is refused and why', () => {
  const cases: [string, string][] = [
    ['n,,n=,r=abc', 'challenge'],
    ['n,,n=ignored,r=abc,x=extension', 'challenge'],
    ['y,,n=\u00fcser,r=abc', 'challenge'],
    ['', 'malformed'],
    ['x,,n=,r=abc', 'malformed'],
    ['n,n=,r=abc', 'malformed'],
    ['n,,n=', 'malformed'],
    ['n,,r=abc,n=', 'malformed'],
    ['n,,n=,r=', 'malformed'],
    ['n,,n=,r=a b', 'malformed'],
    ['n,,n=,r=a\u00e9', 'malformed'],
    ['n,,n=,r=abc,', 'malformed'],
    ['n,,n=,r=abc\0', 'malformed'],
    ['n,,n=,r=abc\n', 'malformed'],
    ['p=,,n=,r=abc', 'malformed'],
    ['n,a=root,n=,r=abc', 'unsupported'],
    ['n,,m=must,n=,r=abc', 'unsupported'],
    ['p=tls-unique,,n=,r=abc', 'channel_binding'],
    [`n,,n=,r=${'a'.repeat(600)}`, 'malformed'],
    [`n,,n=${'a'.repeat(1100)},r=abc`, 'malformed'],
  ]
  for (const [message, outcome] of cases) {
    assert.equal(codeOf(serverOf().receive(Buffer.from(message))), outcome, message.slice(0, 40))
  }
  const server = serverOf({ mechanism: plus, channelBinding: offered })
  assert.equal(codeOf(server.receive(Buffer.from('p=tls-unique,,n=,r=abc'))), 'unsupported')
})

test('a client that sent no initial response is asked for it', async () => {
  const server = serverOf()
  assert.equal(expectStep(server.receive(undefined), 'challenge').body.length, 0)
  const [end] = await run(clientOf(), server)
  expectStep(end, 'success')
})

/** A server that waits for the final message, and the final message that it waits for. */
async function almostDone(): Promise<{ server: ScramServer; client: ScramClient; final: Buffer }> {
  const [server, client] = [serverOf(), clientOf()]
  const challenge = expectStep(server.receive(client.start()), 'challenge')
  return { server, client, final: expectStep(await client.receive(challenge.body), 'response').body }
}

test('no changed byte of the final message logs in', async () => {
  const { final } = await almostDone()
  for (let at = 0; at < final.length; at++) {
    const changed = Buffer.from(final)
    changed[at]! ^= 1
    const { server } = await almostDone()
    assert.notEqual(server.receive(changed).kind, 'success', `byte ${at}`)
  }
})

test('a final message: what is refused and why', async () => {
  const { final } = await almostDone()
  const text = final.toString()
  const cases: [string, string][] = [
    [text, 'success'],
    [text.replace('c=biws', 'c=eSws'), 'channel_binding'],
    [text.replace('c=biws', 'c=biw'), 'malformed'],
    [text.replace(/r=.{4}/, 'r=AAAA'), 'nonce'],
    [text.replace(',p=', 'x,p='), 'nonce'],
    [text.replace(/,p=.*/, ''), 'malformed'],
    [text.replace(/,p=.*/, ',p=AAAA'), 'malformed'],
    [`${text},x=1`, 'malformed'],
    [text.replace(',p=', ',x=1,p='), 'wrong_password'],
    ['', 'malformed'],
  ]
  for (const [message, outcome] of cases) {
    const { server } = await almostDone()
    assert.equal(codeOf(server.receive(Buffer.from(message))), outcome, message)
  }
})

test('an exchange that is over takes nothing more', async () => {
  const { server, client, final } = await almostDone()
  const end = expectStep(server.receive(final), 'success')
  assert.equal(codeOf(server.receive(final)), 'out_of_order')
  expectStep(await client.receive(end.body), 'verified')
  assert.equal(codeOf(await client.receive(end.body)), 'out_of_order')

  const failed = serverOf()
  failed.receive(Buffer.from('nonsense'))
  assert.equal(codeOf(failed.receive(clientOf().start())), 'out_of_order')
  assert.equal(codeOf(await clientOf().receive(Buffer.from('r=a,s=YQ==,i=4096'))), 'out_of_order')
})

test('a server that does not know the secret is found out', async () => {
  const { client } = await almostDone()
  const signature = Buffer.alloc(32, 1).toString('base64')
  assert.equal(codeOf(await client.receive(Buffer.from(`v=${signature}`))), 'server_unproven')
})

test('a final message of a server: what is refused and why', async () => {
  const cases: [string, string][] = [
    ['e=invalid-proof', 'server_refused'],
    ['e=\u001b[31mred', 'server_refused'],
    ['v=AAAA', 'malformed'],
    ['v=', 'malformed'],
    ['', 'malformed'],
    ['x=1', 'malformed'],
  ]
  for (const [message, outcome] of cases) {
    const { client } = await almostDone()
    const step = await client.receive(Buffer.from(message))
    assert.equal(codeOf(step), outcome, message)
    assert.doesNotMatch(expectStep(step, 'failed').message, /[^\x20-\x7e]/)
  }
})

test('a challenge of a server: what is refused and why', async () => {
  const nonce = clientOf().start().toString().split('r=')[1]!
  const cases: [string, string][] = [
    [`r=${nonce}x,s=${salt.toString('base64')},i=4096`, 'response'],
    [`r=${nonce}x,s=${salt.toString('base64')},i=4096,x=more`, 'response'],
    [`r=${nonce},s=YQ==,i=4096`, 'nonce'],
    [`r=x${nonce},s=YQ==,i=4096`, 'nonce'],
    [`r=${nonce}x,s=YQ,i=4096`, 'malformed'],
    [`r=${nonce}x,s=,i=4096`, 'malformed'],
    [`r=${nonce}x,s=YQ==,i=0`, 'malformed'],
    [`r=${nonce}x,s=YQ==,i=1e9`, 'malformed'],
    [`r=${nonce}x,s=YQ==,i=99999999999999999999`, 'malformed'],
    [`r=${nonce}x,s=YQ==`, 'malformed'],
    [`m=x,r=${nonce}x,s=YQ==,i=4096`, 'unsupported'],
    [`r=${nonce}x,s=${'A'.repeat(5000)},i=4096`, 'malformed'],
    ['', 'malformed'],
  ]
  for (const [message, outcome] of cases) {
    const client = clientOf()
    client.start()
    assert.equal(codeOf(await client.receive(Buffer.from(message))), outcome, message.slice(0, 80))
  }
})

test('a count that would keep the processor busy, or give the password away, is refused', async () => {
  const nonce = clientOf().start().toString().split('r=')[1]!
  for (const [iterations, outcome] of [
    [1, 'iterations'],
    [4095, 'iterations'],
    [1_000_001, 'iterations'],
    [4_294_967_295, 'iterations'],
    [4096, 'response'],
  ] as const) {
    const client = clientOf({ password: 'pencil', keys: undefined })
    client.start()
    const step = await client.receive(Buffer.from(`r=${nonce}x,s=YQ==,i=${iterations}`))
    assert.equal(codeOf(step), outcome, `${iterations}`)
  }
})

test('a server that talks on while the client hashes ends the login', async () => {
  const client = clientOf({ password: 'pencil', keys: undefined })
  const challenge = expectStep(serverOf().receive(client.start()), 'challenge').body
  const steps = await Promise.all([client.receive(challenge), client.receive(challenge)])
  assert.deepEqual(steps.map(codeOf), ['out_of_order', 'out_of_order'])
  assert.equal(codeOf(await client.receive(challenge)), 'out_of_order')
})

test('any bytes at any step give a step and no exception', async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.string({ maxLength: 40 }).map(text => Buffer.from(`n,,n=,r=${text}`)),
    fc
      .array(fc.constantFrom('r=', 's=', 'i=', 'v=', 'e=', 'p=', 'c=', ',', '=', 'AAAA', 'n', '9', '\0'), {
        maxLength: 20,
      })
      .map(parts => Buffer.from(parts.join(''))),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(bytes, { minLength: 1, maxLength: 4 }), async messages => {
      const [server, client] = [serverOf(), clientOf()]
      client.start()
      for (const message of messages) {
        assert.notEqual(server.receive(Buffer.from(message)).kind, 'success')
        assert.notEqual((await client.receive(Buffer.from(message))).kind, 'verified')
      }
    }),
    { numRuns: 300 },
  )
})
