import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { emptyThrottle, type LoginOutcome, throttleDefaults, throttleStep } from './throttle.ts'

const [here, there] = ['10.0.0.1', '10.0.0.2']

function failures(count: number, state = emptyThrottle(), nowMs = 0): number[] {
  return Array.from({ length: count }, () => throttleStep(state, here, 'failed', nowMs))
}

test('a few failures are free, then each doubles the delay up to its most', () => {
  assert.deepEqual(failures(10), [0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000])
})

test('whoever comes again without waiting waits then', () => {
  const state = emptyThrottle()
  failures(4, state, 1000)
  assert.equal(throttleStep(state, here, 'begun', 1000), 500)
  assert.equal(throttleStep(state, here, 'begun', 1400), 100)
  assert.equal(throttleStep(state, here, 'begun', 1500), 0)
  assert.equal(throttleStep(state, there, 'begun', 1000), 0)
})

test('a success ends the wait but does not forgive', () => {
  const state = emptyThrottle()
  failures(4, state)
  assert.equal(throttleStep(state, here, 'succeeded', 0), 0)
  assert.equal(throttleStep(state, here, 'begun', 0), 0)
  assert.deepEqual(failures(1, state), [1000])
})

test('time forgives one failure after the other', () => {
  const state = emptyThrottle()
  failures(5, state)
  const { forgiveAfterMs } = throttleDefaults
  assert.deepEqual(failures(1, state, 3 * forgiveAfterMs), [250])
  assert.deepEqual(failures(1, state, 100 * forgiveAfterMs), [0])
  assert.equal(state.records.size, 1)
  throttleStep(state, here, 'succeeded', 200 * forgiveAfterMs)
  assert.equal(state.records.size, 0)
})

test('long guessing is forgiven no later than short guessing that reached the most', () => {
  const state = emptyThrottle()
  failures(1000, state)
  assert.deepEqual(failures(1, state, 10 * throttleDefaults.forgiveAfterMs), [0])
})

test('addresses are told apart, but not within the network of one machine', () => {
  const state = emptyThrottle()
  const failedFrom = (address: string | undefined) => throttleStep(state, address, 'failed', 0)
  for (const address of ['2001:db8::1', '2001:db8::2', '2001:db8::ffff:1']) failedFrom(address)
  assert.equal(failedFrom('2001:db8:0:0:9::'), 500)
  assert.equal(failedFrom('2001:db8:0:1::1'), 0)
  for (const address of ['10.0.0.1', '::ffff:10.0.0.1']) failedFrom(address)
  assert.equal(failedFrom('10.0.0.1'), 250)
  for (const address of [undefined, undefined]) failedFrom(address)
  assert.equal(failedFrom(undefined), 250)
})

test('only so many addresses are remembered, those with the latest failures', () => {
  const state = emptyThrottle({ ...throttleDefaults, addressesMax: 3 })
  for (const address of ['1.1.1.1', '2.2.2.2', '3.3.3.3', '1.1.1.1', '4.4.4.4'])
    throttleStep(state, address, 'failed', 0)
  assert.equal(state.records.size, 3)
  throttleStep(state, '1.1.1.1', 'failed', 0)
  assert.equal(throttleStep(state, '1.1.1.1', 'begun', 0), 250)
})

test('no sequence of logins delays anybody for longer than the most, or remembers too much', () => {
  const step = fc.record({
    address: fc.constantFrom('1.1.1.1', '2.2.2.2', '::1', 'fe80::1', undefined, 'junk'),
    outcome: fc.constantFrom<LoginOutcome>('begun', 'failed', 'succeeded'),
    passedMs: fc.nat(200_000),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), steps => {
      const state = emptyThrottle({ ...throttleDefaults, addressesMax: 3 })
      let nowMs = 0
      for (const { address, outcome, passedMs } of steps) {
        nowMs += passedMs
        const delayMs = throttleStep(state, address, outcome, nowMs)
        assert.ok(delayMs >= 0 && delayMs <= throttleDefaults.delayMsMax)
        assert.ok(state.records.size <= 3)
      }
    }),
  )
})
