import assert from 'node:assert/strict'
import { test } from 'node:test'
import { plotWorkload } from './plot.ts'
import { compare, type Results } from './results.ts'
import { workloadSection } from './table.ts'
import { pickWorkloads } from './workloads/all.ts'

const [workload] = pickWorkloads(['select-prepared'])
const cells = [
  { workload: 'select-prepared', clients: 8, contestant: 'direct', samples: [{ tps: 1000 }, { tps: 1100 }] },
  {
    workload: 'select-prepared',
    clients: 8,
    contestant: 'pgherd',
    samples: [
      { tps: 2000, proxyCpuUs: 12.34 },
      { tps: 2200, proxyCpuUs: 12.34 },
    ],
  },
  {
    ...{ workload: 'select-prepared', clients: 64, contestant: 'pgherd', samples: [] },
    failure: 'it <fell> over',
  },
]
const results: Results = {
  environment: {
    date: '2026-01-02',
    processor: 'a processor',
    processors: 2,
    memoryGb: 8,
    system: 'a system',
    node: '20.19.0',
    postgres: '15.1',
    pgbench: 'pgbench 15.1',
    loadBefore: 1.5,
  },
  options: { rounds: 2, seconds: 3, poolSize: 20, scale: 10, jobs: 2 },
  serverSettings: {},
  contestants: [
    { name: 'direct', title: 'direct', version: '' },
    { name: 'pgherd', title: 'pgherd', version: '1.2.3', statementsRemark: 'A remark.' },
    { name: 'absent', title: 'absent', version: '9', statementsRemark: 'Of nobody.' },
  ],
  configurations: [],
  leftOut: [],
  cells,
  comparisons: compare(cells, new Set(['pgherd']), () => ['tps']),
}

test('a section has the machine, the medians with their spread, the ratios, remarks and failures', () => {
  const section = workloadSection(workload!, results)
  assert.ok(section.startsWith('### select-prepared\n'))
  for (const part of [
    '2026-01-02, 2 processors (a processor), a system; PostgreSQL 15.1, Node.js 20.19.0, pgherd 1.2.3.',
    'The machine was busy before (load 1.50).',
    '| 8 | direct | 1050 [1000..1100] |',
    '| 8 | pgherd | 2100 [2000..2200] |',
    '| 12.3 [12.3..12.3] |',
    '| 8 | pgherd / direct | 2.00 [2.00..2.00] |',
    'A remark.',
    'pgherd with 64 clients: it <fell> over',
  ]) {
    assert.ok(section.includes(part), `${part} in\n${section}`)
  }
  assert.ok(!section.includes('Of nobody.'))
})

test('noise is called so', () => {
  const noisy = results.comparisons.map(each => ({ ...each, verdict: 'noise' as const }))
  assert.match(
    workloadSection(workload!, { ...results, comparisons: noisy }),
    /2\.00 \[2\.00\.\.2\.00\] noise/,
  )
  const single = results.comparisons.map(each => ({ ...each, verdict: 'single' as const }))
  assert.match(workloadSection(workload!, { ...results, comparisons: single }), /2\.00 in one round/)
})

test('a plot has a bar for each cell that was measured, and none for one that was not', () => {
  const svg = plotWorkload(workload!, cells, [
    { name: 'direct', title: 'a & b' },
    { name: 'pgherd', title: 'pgherd' },
  ])
  assert.equal(svg.match(/<title>/g)?.length, 2)
  assert.ok(svg.includes('a &amp; b: 1050 [1000..1100]'))
  assert.ok(svg.includes('pgherd: 2100 [2000..2200]'))
  // The higher bar reaches further up.
  const heights = [...svg.matchAll(/height="([\d.]+)" fill="[^"]+"><title>/g)].map(([, height]) =>
    Number(height),
  )
  assert.ok(heights[1]! > heights[0]!)
  assert.ok(!svg.includes('NaN'))
})

test('a plot of nothing is still one', () => {
  const svg = plotWorkload(workload!, [], [])
  assert.ok(svg.startsWith('<svg') && svg.trimEnd().endsWith('</svg>') && !svg.includes('NaN'))
})
