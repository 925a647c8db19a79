import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClientTally } from './client-tally.ts'

const ada = { database: 'app', user: 'ada' }
const bob = { database: 'app', user: 'bob' }

test('clients are counted by database and by user, until they leave', () => {
  const tally = new ClientTally()
  for (const each of [ada, ada, bob]) tally.add(each)
  const none = { dbClientsMax: 0, userClientsMax: 0 }
  assert.equal(tally.excess(ada, none), undefined)
  assert.equal(tally.excess(ada, { dbClientsMax: 3, userClientsMax: 2 }), undefined)
  assert.match(tally.excess(bob, { dbClientsMax: 2, userClientsMax: 1 }) ?? '', /database "app".*2 are taken/)
  assert.match(tally.excess(ada, { dbClientsMax: 3, userClientsMax: 1 }) ?? '', /user "ada".*1 are taken/)
  assert.equal(tally.excess(bob, { dbClientsMax: 0, userClientsMax: 1 }), undefined)
  tally.remove(ada)
  assert.equal(tally.excess(ada, { dbClientsMax: 2, userClientsMax: 1 }), undefined)
})
