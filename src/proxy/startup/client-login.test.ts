import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { until } from '../../../test/support/wait.ts'
import { writePassword, writeSaslInitialResponse } from '../../auth/client-messages.ts'
import type { HbaConnection } from '../../auth/hba.ts'
import { parseHba } from '../../auth/hba-parse.ts'
import { md5Answer, md5Secret } from '../../auth/md5.ts'
import { deriveKeys, verifierOf } from '../../auth/scram.ts'
import { ScramClient } from '../../auth/scram-client.ts'
import type { Secret } from '../../auth/secrets.ts'
import { emptyThrottle } from '../../auth/throttle.ts'
import { silentLogger } from '../../runtime/log.ts'
import { seededRandom } from '../../runtime/random.ts'
import { frame } from '../../wire/messages.ts'
import { MessageReader } from '../../wire/reader.ts'
import { type Accepted, ClientLogin, type LoginRules } from './client-login.ts'
import { ServerAccounts } from './server-account.ts'
import { type AskSecret, UserSecrets } from './user-secrets.ts'

const mockSecret = Buffer.alloc(32, 7)
const salt = Buffer.from('the salt of ada.')
let time: FakeTime
let known: Map<string, Secret | undefined>
let ask: AskSecret | undefined

beforeEach(async () => {
  time = new FakeTime()
  ask = undefined
  known = new Map<string, Secret | undefined>([
    ['ada', { kind: 'scram', verifier: verifierOf(await deriveKeys('pencil', salt, 4096)) }],
    ['bob', { kind: 'md5', secret: md5Secret('bob', 'brush') }],
    ['cleo', { kind: 'plain', password: 'chalk' }],
  ])
})

function rulesOf(text: string): LoginRules {
  const { problems, rules } = parseHba(text, 'hba')
  assert.deepEqual(problems, [])
  const secrets = new UserSecrets({ known, ask, mockSecret, clock: time })
  return {
    rules,
    maps: new Map(),
    secrets,
    accounts: new ServerAccounts(seededRandom(3), () => undefined),
    throttle: emptyThrottle(),
    mockSecret,
  }
}

interface Attempt {
  login: ClientLogin
  /** Bodies of the Authentication messages that the client has got. */
  asked: Buffer[]
  accepted: Accepted | undefined
  refused: { reason: string; message: string; sqlstate: string | undefined } | undefined
}

function attempt(rules: LoginRules, who: Partial<HbaConnection> = {}): Attempt {
  const connection: HbaConnection = {
    address: '192.0.2.7',
    tls: false,
    user: 'ada',
    database: 'shop',
    replication: 'none',
    ...who,
  }
  const reader = new MessageReader(65_536)
  const made: Attempt = { login: undefined as never, asked: [], accepted: undefined, refused: undefined }
  made.login = new ClientLogin({
    rules,
    connection,
    client: '192.0.2.7:4711',
    security: undefined,
    clock: time,
    timers: time,
    random: seededRandom(1),
    log: silentLogger,
    send: message => {
      reader.push(message, (_, body) => {
        made.asked.push(Buffer.from(body))
        return true
      })
    },
    onAccepted: accepted => {
      made.accepted = accepted
    },
    onRefused: (reason, message, { sqlstate }) => {
      made.refused = { reason, message, sqlstate }
    },
  })
  made.login.start()
  return made
}

const answer = (login: ClientLogin, body: Buffer): void => login.push(frame(0x70, body))
const questions = (made: Attempt, count: number) => until(`question ${count}`, () => made.asked[count - 1])

/** The client's side of SCRAM; `pieces` cuts what it sends. */
async function scram(made: Attempt, password: string, pieces = (bytes: Buffer) => [bytes]): Promise<void> {
  const client = new ScramClient({
    password,
    keys: undefined,
    channelBinding: { kind: 'none' },
    random: seededRandom(2),
  })
  const send = (body: Buffer): void => {
    for (const piece of pieces(frame(0x70, body))) made.login.push(piece)
  }
  await questions(made, 1)
  send(writeSaslInitialResponse('SCRAM-SHA-256', client.start()))
  const step = await client.receive((await questions(made, 2)).subarray(4))
  assert.equal(step.kind, 'response')
  if (step.kind === 'response') send(step.body)
}

/** Waits for an end that needs no time to pass. */
const settled = (made: Attempt) =>
  until('an end', async () => {
    await time.pass(0)
    return made.accepted ?? made.refused
  })

test('SCRAM ends with the keys that open the servers', async () => {
  const made = attempt(rulesOf('host all all all scram-sha-256'))
  await scram(made, 'pencil')
  await settled(made)
  const { account, last, rest } = made.accepted!
  assert.equal(last?.readInt32BE(5), 12)
  assert.equal(rest.length, 0)
  const step = await account
    .logIn('db', undefined)
    .receive(Buffer.concat([Buffer.from([0, 0, 0, 10]), Buffer.from('SCRAM-SHA-256\0\0')]))
  assert.equal(step.kind, 'send')
})

test('it may come byte by byte, and what follows is kept', async () => {
  const made = attempt(rulesOf('host all all all scram-sha-256'))
  let sent = 0
  await scram(made, 'pencil', bytes => {
    const pieces = [...bytes].map(byte => Buffer.from([byte]))
    return ++sent === 2
      ? [...pieces.slice(0, -1), Buffer.concat([...pieces.slice(-1), Buffer.from('more')])]
      : pieces
  })
  await settled(made)
  assert.equal(made.accepted?.rest.toString(), 'more')
})

test('md5 is asked of those who have md5 or a plain secret, and answered', async () => {
  const rules = rulesOf('host all all all md5')
  for (const [user, password] of [
    ['bob', 'brush'],
    ['cleo', 'chalk'],
  ] as const) {
    const made = attempt(rules, { user })
    const challenge = await questions(made, 1)
    assert.equal(challenge.readInt32BE(0), 5)
    answer(made.login, writePassword(md5Answer(md5Secret(user, password), challenge.subarray(4))))
    await settled(made)
    assert.ok(made.accepted, user)
  }
  // Ada's secret is of another kind.
  assert.equal((await questions(attempt(rules), 1)).readInt32BE(0), 10)
})

test('a password in clear is asked over TLS and on this machine only', async () => {
  const rules = rulesOf('host all all all password')
  const far = attempt(rules)
  await settled(far)
  assert.equal(far.refused?.reason, 'unencrypted')
  for (const user of ['ada', 'bob', 'cleo']) {
    const password = { ada: 'pencil', bob: 'brush', cleo: 'chalk' }[user]!
    const near = attempt(rules, { address: '127.0.0.1', user })
    assert.equal((await questions(near, 1)).readInt32BE(0), 3)
    answer(near.login, writePassword(password))
    await settled(near)
    assert.ok(near.accepted, user)
    const wrong = attempt(rules, { address: '127.0.0.1', user })
    await questions(wrong, 1)
    answer(wrong.login, writePassword('pencil '))
    await until('the refusal', async () => {
      await time.pass(1000)
      return wrong.refused
    })
    assert.equal(wrong.refused?.sqlstate, '28P01')
  }
})

test('whoever is not known is asked the same, with the same salt every time, and told the same', async () => {
  const rules = rulesOf('host all all all scram-sha-256')
  const salts = new Set<string>()
  const told = new Set<string>()
  for (const user of ['nobody', 'nobody', 'ada', 'bob', 'cleo']) {
    const made = attempt(rules, { user })
    await scram(made, 'wrong')
    await until('the refusal', async () => {
      await time.pass(10_000)
      return made.refused
    })
    const { message, sqlstate } = made.refused!
    told.add(`${sqlstate} ${message.replace(user, 'X')}`)
    const [, theirs, iterations] = made.asked[1]!.toString('latin1', 4).split(',')
    assert.equal(iterations, 'i=4096')
    assert.equal(Buffer.from(theirs!.slice(2), 'base64').length, 16)
    if (user === 'nobody') salts.add(theirs!)
  }
  assert.equal(salts.size, 1)
  assert.deepEqual([...told], ['28P01 password authentication failed for user "X"'])
})

test('who fails again and again waits for the refusal, and before the next attempt', async () => {
  const rules = rulesOf('host all all all md5')
  const fail = async (): Promise<Attempt> => {
    const made = attempt(rules, { user: 'bob' })
    await questions(made, 1)
    answer(made.login, writePassword('md5'))
    return made
  }
  for (let i = 0; i < 2; i++) await settled(await fail())
  const third = await fail()
  await time.pass(240)
  assert.equal(third.refused, undefined)
  const fourth = attempt(rules, { user: 'bob' })
  await time.pass(5)
  assert.equal(fourth.asked.length, 0)
  await time.pass(10)
  await settled(third)
  await questions(fourth, 1)
})

test('a closed connection is told nothing any more', async () => {
  const rules = rulesOf('host all all all reject')
  const made = attempt(rules)
  made.login.close()
  await time.pass(10_000)
  assert.equal(made.refused, undefined)
})

test('rules refuse in the words of PostgreSQL', async () => {
  const rejected = attempt(rulesOf('host all all all reject'))
  await until('the refusal', async () => (await time.pass(0), rejected.refused))
  assert.deepEqual(rejected.refused, {
    reason: 'rejected',
    message:
      'pgherd\'s access rules reject connection for host "192.0.2.7", user "ada", database "shop", no encryption',
    sqlstate: undefined,
  })
  const unknown = attempt(rulesOf('hostssl all all all trust'))
  await until('the refusal', async () => (await time.pass(0), unknown.refused))
  assert.equal(unknown.refused?.reason, 'no_rule')
})

test('when no server can be asked the login fails for now, and costs no waiting', async () => {
  ask = () => Promise.reject(new Error('nobody answers'))
  const rules = rulesOf('host all all all scram-sha-256')
  for (let i = 0; i < 5; i++) {
    const made = attempt(rules, { user: 'dora' })
    await until('the refusal', async () => (await time.pass(0), made.refused))
    assert.deepEqual(made.refused, {
      reason: 'lookup_failed',
      message: 'the login cannot be checked now',
      sqlstate: '57P03',
    })
  }
})

test('messages against the rules end it', async () => {
  const sent: [string, Buffer[], RegExp][] = [
    ['scram-sha-256', [frame(0x51, Buffer.from('select 1\0'))], /a message 'Q' came instead of the answer/],
    ['scram-sha-256', [frame(0x70, Buffer.from('SCRAM'))], /first answer of SCRAM is broken/],
    [
      'scram-sha-256',
      [frame(0x70, writeSaslInitialResponse('SCRAM-SHA-1', Buffer.from('n,,n=,r=x')))],
      /not offered/,
    ],
    ['scram-sha-256', [Buffer.from([0x70, 0, 0, 0, 3])], /impossible length/],
    ['scram-sha-256', [Buffer.from([0x70, 0, 2, 0, 0])], /over the limit/],
    ['scram-sha-256', [Buffer.alloc(70_000)], /sent ahead/],
  ]
  for (const [method, pieces, problem] of sent) {
    const made = attempt(rulesOf(`host all all all ${method}`))
    await questions(made, 1)
    for (const piece of pieces) made.login.push(piece)
    await until('the refusal', async () => (await time.pass(10_000), made.refused))
    assert.equal(made.refused?.reason, 'malformed')
    assert.match(made.refused?.message ?? '', problem)
  }
})
