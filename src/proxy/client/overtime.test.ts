import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testLimits } from '../../../test/support/worker-settings.ts'
import { overtime } from './overtime.ts'

const idle = { isBusy: false, requestSinceMs: 1000, transactionSinceMs: 0 }
const limits = testLimits({ queryTimeoutMs: 100, idleTransactionTimeoutMs: 200, transactionTimeoutMs: 1000 })

test('without a transaction and a request nothing is over', () => {
  assert.equal(overtime(idle, limits, 1_000_000), undefined)
})

test('without limits nothing ever is', () => {
  const work = { isBusy: true, requestSinceMs: 0, transactionSinceMs: 1 }
  assert.equal(overtime(work, testLimits(), 1_000_000), undefined)
})

test('a request, a transaction and a pause in it have a limit each', () => {
  const reasonAt = (work: Partial<typeof idle>, nowMs: number): string | undefined =>
    overtime({ ...idle, ...work }, limits, nowMs)?.reason
  assert.equal(reasonAt({ isBusy: true }, 1100), undefined)
  assert.equal(reasonAt({ isBusy: true }, 1101), 'query_timeout')
  assert.equal(reasonAt({ transactionSinceMs: 900 }, 1200), undefined)
  assert.equal(reasonAt({ transactionSinceMs: 900 }, 1201), 'idle_transaction_timeout')
  assert.equal(reasonAt({ transactionSinceMs: 900, requestSinceMs: 1850 }, 1901), 'transaction_timeout')
  assert.equal(reasonAt({ isBusy: true, transactionSinceMs: 900, requestSinceMs: 1850 }, 1890), undefined)
})
