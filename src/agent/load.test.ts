import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CpuTicks, cpuShare, LoadMeter, parsePressure, sumTicks } from './load.ts'

test('ticks of all processors are added up', () => {
  const times = { user: 10, nice: 1, sys: 5, idle: 80, irq: 4 }
  assert.deepEqual(sumTicks([{ times }, { times }]), { busy: 40, total: 200 })
})

test('the share is that of the interval, and within 0..1 whatever the counters do', () => {
  assert.equal(cpuShare({ busy: 10, total: 100 }, { busy: 60, total: 200 }), 0.5)
  assert.equal(cpuShare({ busy: 10, total: 100 }, { busy: 10, total: 100 }), undefined)
  assert.equal(cpuShare({ busy: 50, total: 100 }, { busy: 40, total: 200 }), 0)
})

test('the pressure file', () => {
  const text =
    'some avg10=12.34 avg60=1.00 avg300=0.50 total=123\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=1\n'
  assert.equal(parsePressure(text), 0.1234)
  assert.equal(parsePressure(''), undefined)
})

function meter(readings: CpuTicks[], pressure: () => Promise<string>): LoadMeter {
  return new LoadMeter({ ticks: () => readings.shift()!, pressure })
}

test('the meter smooths, and leaves out what cannot be read', async () => {
  const readings = [
    { busy: 0, total: 0 },
    { busy: 0, total: 0 },
    { busy: 0, total: 100 },
    { busy: 100, total: 200 },
  ]
  const load = meter(readings, () => Promise.reject(new Error('ENOENT')))
  assert.equal(await load.sample(), undefined)
  assert.deepEqual(await load.sample(), { cpu: 0 })
  assert.deepEqual(await load.sample(), { cpu: 0.3 })
})

test('the meter adds I/O pressure where there is some', async () => {
  const readings = [
    { busy: 0, total: 0 },
    { busy: 50, total: 100 },
  ]
  const load = meter(readings, () => Promise.resolve('some avg10=25.00 avg60=0.00 avg300=0.00 total=0'))
  assert.deepEqual(await load.sample(), { cpu: 0.5, io: 0.25 })
})
