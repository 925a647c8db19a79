import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../runtime/random.ts'
import { CancelKeys, type KeyOwner, markPassedOn, readSecret } from './cancels.ts'

type Owner = KeyOwner & { name: string }

test('a key leads to its owner until that is forgotten, and begins with the prefix of its time', () => {
  const keys = new CancelKeys<Owner>(seededRandom(1))
  keys.prefix = 17
  const [one, two] = ['one', 'two'].map(name => ({ name, cancelKey: undefined })) as [Owner, Owner]
  const pooled = keys.register(one, undefined)
  const long = keys.register(two, 4711, 32)
  assert.deepEqual([pooled.secret.length, pooled.secret[0]], [4, 17])
  assert.deepEqual([long.processId, long.secret.length, long.secret[0]], [4711, 32, 17])
  keys.prefix = 18
  assert.equal(keys.find(pooled.processId, pooled.secret), one)
  assert.equal(keys.find(4711, long.secret), two)
  assert.equal(keys.find(pooled.processId, long.secret), undefined)
  assert.deepEqual(keys.keyOf(two), { processId: 4711, secret: long.secret.toString('hex') })
  keys.forget(two)
  assert.equal(keys.keyOf(two), undefined)
  assert.equal(keys.find(4711, long.secret), undefined)
})

test('the mark of a request that was passed on comes off again', () => {
  for (const bytes of [4, 32]) {
    const secret = Buffer.alloc(bytes, 3)
    assert.deepEqual(readSecret(secret), { secret, isPassedOn: false })
    assert.deepEqual(readSecret(markPassedOn(secret)), { secret, isPassedOn: true })
  }
})
