import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Cell, compare, valuesOf } from './results.ts'

function cell(contestant: string, tps: number[], clients = 8): Cell {
  return { workload: 'w', clients, contestant, samples: tps.map(each => ({ tps: each })) }
}

test('a subject is compared with every other contestant of the same cell, round by round', () => {
  const cells = [cell('direct', [10, 20]), cell('pgherd', [20, 40]), cell('direct', [1, 1], 64)]
  assert.deepEqual(
    compare(cells, new Set(['pgherd']), () => ['tps']),
    [
      {
        workload: 'w',
        clients: 8,
        subject: 'pgherd',
        against: 'direct',
        metric: 'tps',
        ratio: { median: 2, min: 2, max: 2 },
        verdict: 'more',
      },
    ],
  )
})

test('what one of the two does not have is not compared', () => {
  const cells = [cell('direct', []), cell('pgherd', [20, 40])]
  assert.deepEqual(
    compare(cells, new Set(['pgherd']), () => ['tps', 'proxyCpuUs']),
    [],
  )
})

test('a variant is compared with pgherd as well', () => {
  const cells = [cell('pgherd', [10, 10]), cell('variant', [5, 5])]
  const pairs = compare(cells, new Set(['pgherd', 'variant']), () => ['tps'])
  assert.deepEqual(
    pairs.map(({ subject, against, ratio }) => [subject, against, ratio.median]),
    [
      ['pgherd', 'variant', 2],
      ['variant', 'pgherd', 0.5],
    ],
  )
})

test('values are those of the rounds that have one', () => {
  const samples = [{ tps: 1 }, {}, { tps: 3 }]
  assert.deepEqual(valuesOf({ ...cell('direct', []), samples }, 'tps'), [1, 3])
})
