import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readPassword } from '../../auth/client-messages.ts'
import { deriveKeys } from '../../auth/scram.ts'
import { seededRandom } from '../../runtime/random.ts'
import { writeErrorBody } from '../../wire/messages.ts'
import { isLoopback, ServerAccount, ServerAccounts } from './server-account.ts'

const cleartext = Buffer.from([0, 0, 0, 3])
const sasl = Buffer.concat([Buffer.from([0, 0, 0, 10]), Buffer.from('SCRAM-SHA-256\0\0')])

/** What the account answers when a server on this machine asks for the password itself. */
async function passwordOf(account: ServerAccount): Promise<string> {
  const step = await account.logIn('127.0.0.1', undefined).receive(cleartext)
  return step.kind === 'send' ? readPassword(step.body)!.toString() : step.kind
}

function accountsOf(): { accounts: ServerAccounts; refused: string[] } {
  const refused: string[] = []
  const accounts = new ServerAccounts(seededRandom(1), (user, node, reason) => {
    refused.push(`${user} ${node} ${reason}`)
  })
  return { accounts, refused }
}

test('all clients of a user share what the newest login has brought', async () => {
  const { accounts } = accountsOf()
  const first = accounts.renewed('ada', { password: 'pencil' })
  const second = accounts.renewed('ada', { password: 'brush' })
  assert.equal(first, second)
  assert.equal(await passwordOf(first), 'brush')
  assert.notEqual(accounts.renewed('bob', {}), first)
})

test('a login that brings nothing takes nothing away', async () => {
  const { accounts } = accountsOf()
  accounts.renewed('ada', { password: 'pencil' })
  assert.equal(await passwordOf(accounts.renewed('ada', {})), 'pencil')
  assert.equal(await passwordOf(accounts.renewed('bob', {})), 'failed')
})

test('keys that were found are used until the password is another', async () => {
  const account = new ServerAccount({ user: 'ada', random: seededRandom(1), onRefused: () => undefined })
  const salt = Buffer.from('the salt of ada.')
  const opensScram = async () => (await account.logIn('db', undefined).receive(sasl)).kind
  account.keep(await deriveKeys('pencil', salt, 4096))
  assert.equal(await opensScram(), 'send')
  account.renew({ md5: `md5${'0'.repeat(32)}` })
  assert.equal(await opensScram(), 'failed')
})

test('a password goes in clear to this machine only', async () => {
  const { accounts } = accountsOf()
  const account = accounts.renewed('ada', { password: 'pencil' })
  const step = await account.logIn('192.0.2.7', undefined).receive(cleartext)
  assert.ok(step.kind === 'failed' && step.code === 'cleartext_refused')
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', 'localhost', '::ffff:127.0.0.1']) {
    assert.ok(isLoopback(host), host)
  }
  for (const host of ['128.0.0.1', '::2', 'localhost.example', '1270.0.0.1', ''])
    assert.ok(!isLoopback(host), host)
})

test('only what is about the login itself counts as a refusal of it', () => {
  const { accounts, refused } = accountsOf()
  const account = accounts.renewed('ada', {})
  const body = (code: string) => writeErrorBody({ severity: 'FATAL', code, message: 'no' })
  account.noteRefusal('a', body('3D000'))
  account.noteRefusal('a', body('28P01'))
  account.noteRefusal('b', body('28000'))
  assert.deepEqual(refused, ['ada a no', 'ada b no'])
})
