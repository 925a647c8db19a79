import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { node, primary, topology } from '../../test/support/topology.ts'
import { seededRandom } from '../runtime/random.ts'
import type { TopologyNode } from '../topology/types.ts'
import { Balance, type BalanceOptions } from './balance.ts'
import { explainChoice } from './explain.ts'
import { Typical } from './typical.ts'

function balanceOf(nodes: TopologyNode[], over: Partial<BalanceOptions> & { all?: TopologyNode[] } = {}) {
  const balance = new Balance({
    random: seededRandom(1),
    zone: () => '',
    slowStartMs: () => 10_000,
    ejectionMaxPercent: () => 50,
    firstTurn: 0,
    ...over,
  })
  balance.setNodes(over.all ?? nodes, nodes, 0)
  return balance
}

/** `count` answers, one a millisecond from `fromMs` on. */
function answers(balance: Balance, name: string, times: number, count = 1000, fromMs = 0): void {
  for (let at = 1; at <= count; at++) balance.load(name).observe(5 * times, times, fromMs + at)
}

function fill(balance: Balance, nodes: TopologyNode[], clients: number): Record<string, number> {
  for (let at = 0; at < clients; at++) assert.ok(balance.choose(nodes, undefined))
  return clientsOf(balance, nodes)
}

const clientsOf = (balance: Balance, nodes: TopologyNode[]): Record<string, number> =>
  Object.fromEntries(nodes.map(({ name }) => [name, balance.load(name).clients]))

const shareOf = (balance: Balance, name: string): number => balance.share(name)!.value

test('clients are spread by weight', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 6 }),
      fc.nat(),
      (weights, seed) => {
        const nodes = weights.map((weight, at) => node(`n${at}`, { weight }))
        const balance = balanceOf(nodes, { random: seededRandom(seed) })
        const total = weights.reduce((sum, weight) => sum + weight, 0)
        const clients = fill(balance, nodes, total * 20)
        weights.forEach((weight, at) => {
          const count = clients[`n${at}`]!
          assert.ok(Math.abs(count - weight * 20) <= 10, `${count} for weight ${weight} of ${total}`)
        })
      },
    ),
  )
})

test('processes that know nothing of each other give two replicas the same', () => {
  const nodes = [node('b'), node('c')]
  const totals: Record<string, number> = { b: 0, c: 0 }
  for (const firstTurn of [0, 1]) {
    const own = fill(balanceOf(nodes, { firstTurn, random: seededRandom(firstTurn) }), nodes, 5)
    for (const name of ['b', 'c']) totals[name]! += own[name]!
  }
  assert.deepEqual(totals, { b: 5, c: 5 })
})

test('no node, no choice; and only among those that are offered', () => {
  const nodes = [node('b'), node('c')]
  const balance = balanceOf(nodes)
  assert.equal(balance.choose([], undefined), undefined)
  assert.equal(balance.choose([nodes[1]!], undefined)?.name, 'c')
  const other = primary('a')
  assert.equal(balance.choose([other], undefined), other)
  assert.equal(balance.choose([other], other), other)
})

test('whatever was seen: shares add up to one, and most nodes stay in', () => {
  const seen = fc.record({
    node: fc.nat({ max: 5 }),
    kind: fc.constantFrom('quick', 'slow', 'failed', 'stalled', 'review'),
    afterMs: fc.integer({ min: 0, max: 2000 }),
  })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6 }), fc.array(seen, { maxLength: 200 }), (count, events) => {
      const nodes = Array.from({ length: count }, (_, at) => node(`n${at}`))
      const balance = balanceOf(nodes)
      let nowMs = 0
      for (const { afterMs, kind, node: at } of events) {
        nowMs += afterMs
        const load = balance.load(`n${at % count}`)
        if (kind === 'failed') load.failed(nowMs)
        else if (kind === 'stalled') load.stalled(200, nowMs)
        else if (kind !== 'review') load.observe(kind === 'slow' ? 100 : 5, kind === 'slow' ? 20 : 1, nowMs)
        else balance.review(nowMs)
        const out = nodes.filter(({ name }) => balance.load(name).isEjected)
        assert.ok(out.length <= count / 2 && out.length < count, `${out.length} of ${count} are out`)
        const chosen = balance.choose(nodes, undefined)!
        assert.ok(out.length === 0 || kind !== 'review' || !balance.load(chosen.name).isEjected)
      }
      balance.review(nowMs)
      const sum = nodes.reduce((total, { name }) => total + shareOf(balance, name), 0)
      assert.ok(Math.abs(sum - 1) < 1e-9, `shares add up to ${sum}`)
    }),
  )
})

test('a client stays where it is until that has more than its share', () => {
  const nodes = [node('b'), node('c')]
  const balance = balanceOf(nodes)
  balance.load('b').clients = 9
  balance.load('c').clients = 1
  balance.review(1)
  assert.equal(balance.mayStay('b'), false)
  assert.equal(balance.mayStay('c'), true)
  let moved = 0
  for (let client = 0; client < 9; client++) if (balance.choose(nodes, nodes[0])?.name === 'c') moved++
  // A part at once: the others after the next look.
  assert.equal(moved, 1)
  assert.deepEqual(clientsOf(balance, nodes), { b: 8, c: 2 })
  for (let turn = 2; turn < 20; turn++) {
    balance.review(turn)
    while (!balance.mayStay('b')) assert.equal(balance.choose(nodes, nodes[0])?.name, 'c')
  }
  assert.deepEqual(clientsOf(balance, nodes), { b: 5, c: 5 })
})

test('who is much slower than the others is out, and comes back little by little', () => {
  const nodes = [node('b'), node('c'), node('d')]
  const balance = balanceOf(nodes)
  for (const name of ['b', 'c']) answers(balance, name, 1)
  answers(balance, 'd', 8)
  const [change, ...more] = balance.review(1000)
  assert.deepEqual(more, [])
  assert.equal(change?.kind, 'ejected')
  assert.match(change.why, /^d takes \d\.\d times as long as the others do \(\d+\.?\d* ms on average\)$/)
  assert.equal(shareOf(balance, 'd'), 0)
  assert.equal(balance.mayStay('d'), false)
  assert.notEqual(balance.choose(nodes, nodes[2])?.name, 'd')
  // Five seconds, and up to a quarter more.
  assert.deepEqual(balance.review(5900), [])
  assert.deepEqual(
    balance.review(7300).map(({ kind, node: name }) => [kind, name]),
    [['admitted', 'd']],
  )
  assert.ok(Math.abs(shareOf(balance, 'd') - 0.1 / 2.1) < 1e-9)
  balance.review(7300 + 5000)
  assert.ok(Math.abs(shareOf(balance, 'd') - 0.5 / 2.5) < 1e-9)
  balance.review(7300 + 10_000)
  assert.ok(Math.abs(shareOf(balance, 'd') - 1 / 3) < 1e-9)
  // Once more, and for twice as long.
  answers(balance, 'd', 8, 1000, 18_000)
  for (const name of ['b', 'c']) answers(balance, name, 1, 1000, 18_000)
  assert.equal(balance.review(19_000)[0]?.kind, 'ejected')
  assert.deepEqual(balance.review(28_900), [])
  assert.equal(balance.review(32_000)[0]?.kind, 'admitted')
})

test('a node that was only held up for a moment stays in', () => {
  const nodes = [node('b'), node('c')]
  const balance = balanceOf(nodes)
  for (const name of ['b', 'c']) answers(balance, name, 1)
  answers(balance, 'c', 20, 250, 1000)
  answers(balance, 'c', 1, 50, 1250)
  assert.ok(balance.load('c').slowdown > 3)
  balance.load('c').endPeriod()
  answers(balance, 'c', 1, 50, 1300)
  assert.ok(balance.load('c').slowdown > 3)
  assert.deepEqual(balance.review(1350), [])
})

test('a node that was never compared, or is quick enough for anybody, stays in', () => {
  const nodes = [node('b'), node('c'), node('far', { zone: 'far' })]
  const balance = balanceOf(nodes)
  answers(balance, 'b', 1)
  answers(balance, 'far', 10)
  for (let at = 1; at <= 1000; at++) balance.load('c').observe(1.5, 15, at)
  assert.deepEqual(balance.review(1000), [])
  assert.ok(shareOf(balance, 'c') < shareOf(balance, 'b') / 3)
})

test('a node at which all fails is out; what happens at once is one failure', () => {
  const nodes = [node('b'), node('c')]
  const balance = balanceOf(nodes)
  for (let failure = 0; failure < 20; failure++) balance.load('b').failed(1000)
  assert.deepEqual(balance.review(1001), [])
  for (let failure = 1; failure < 5; failure++) balance.load('b').failed(1000 + failure * 200)
  assert.match(balance.review(2000)[0]!.why, /^5 requests in a row failed at b$/)
  // The last one is kept, whatever it is like.
  for (let failure = 0; failure < 9; failure++) balance.load('c').failed(3000 + failure * 200)
  assert.deepEqual(balance.review(5000), [])
})

test('ejection can be turned off', () => {
  const nodes = [node('b'), node('c'), node('d')]
  const balance = balanceOf(nodes, { ejectionMaxPercent: () => 0 })
  for (const name of ['b', 'c']) answers(balance, name, 1)
  answers(balance, 'd', 8)
  assert.deepEqual(balance.review(1000), [])
  assert.ok(shareOf(balance, 'd') > 0 && shareOf(balance, 'd') < 0.15)
})

test('a node that only has the clients with long statements is not slow', () => {
  const nodes = [node('b'), node('c')]
  const balance = balanceOf(nodes)
  const reports = new Typical()
  const reads = new Typical()
  for (let at = 1; at <= 2000; at++) {
    balance.load('b').observe(500, reports.relate(500), at)
    balance.load('c').observe(1, reads.relate(1), at)
  }
  assert.deepEqual(balance.review(2000), [])
  assert.ok(Math.abs(shareOf(balance, 'b') - 0.5) < 0.01)
  // One long statement among many short ones says little.
  balance.load('c').observe(2000, reads.relate(2000), 2001)
  balance.review(2001)
  assert.ok(shareOf(balance, 'c') > 0.49)
})

test('when a node comes into the cluster it gets little at first; those of the beginning do not', () => {
  const [b, c] = [node('b'), node('c')]
  const balance = balanceOf([b])
  assert.equal(shareOf(balance, 'b'), 1)
  balance.setNodes([b, c], [b, c], 5000)
  assert.ok(Math.abs(shareOf(balance, 'c') - 0.1 / 1.1) < 1e-9)
  balance.review(15_000)
  assert.equal(shareOf(balance, 'c'), 0.5)
})

test('who was out for its lag comes back when that is well below the limit', () => {
  const [b, c] = [node('b'), node('c', { lagBytes: 90 })]
  const balance = balanceOf([b])
  const told = (lagBytes: number): number => {
    const nodes = [b, { ...c, lagBytes }]
    balance.setNodes(nodes, nodes, 5000, 100)
    balance.review(5000)
    return shareOf(balance, 'c')
  }
  assert.equal(told(90), 0)
  assert.equal(told(71), 0)
  const [, waiting] = explainChoice(topology([b, c]), 'replica', balance)
  assert.deepEqual(waiting?.reasons, ['gets reads again when its lag is below 70 % of the limit'])
  assert.ok(told(70) > 0)
  // From then on only the limit itself counts; and alone it serves in any case.
  assert.ok(told(99) > 0)
  balance.setNodes([c], [c], 6000, 100)
  assert.equal(balance.choose([c], undefined)?.name, 'c')
})

test('the agents’ word: short of processor or connections, a smaller share', () => {
  const busy = node('b', { load: { cpu: 1 } })
  const full = node('c', { connections: { max: 100, used: 100, active: 100, idleInTransaction: 0 } })
  const half = node('d', { load: { cpu: 0.9 } })
  const well = node('e', {
    load: { cpu: 0.5 },
    connections: { max: 100, used: 60, active: 1, idleInTransaction: 0 },
  })
  const nodes = [busy, full, half, well]
  const balance = balanceOf(nodes)
  assert.deepEqual(
    nodes.map(({ name }) => Math.round(balance.share(name)!.headroom * 1000) / 1000),
    [0.5, 0.5, 0.75, 1],
  )
})

test('the own zone has all while it can bear that, and the others get what is missing', () => {
  const near = ['b', 'c', 'd', 'e'].map(name => node(name, { zone: 'east' }))
  const far = ['f', 'g'].map(name => node(name, { zone: 'west' }))
  const all = [primary('a', { zone: 'east' }), ...near, ...far]
  const parts = [4, 3, 2, 1, 0].map(left => {
    const candidates = [...near.slice(0, left), ...far]
    const balance = balanceOf(candidates, { all, zone: () => 'east' })
    return Math.round(far.reduce((sum, { name }) => sum + shareOf(balance, name), 0) * 100) / 100
  })
  assert.deepEqual(parts, [0, 0, 0.3, 0.65, 1])
  // Where there is nobody else the zone has all.
  const alone = balanceOf([near[0]!], { all, zone: () => 'east' })
  assert.equal(shareOf(alone, 'b'), 1)
})

test('a zone that is ejected or overloaded spills over little by little, and takes its clients back so', () => {
  const nodes = [node('b', { zone: 'east' }), node('c', { zone: 'west' })]
  const zone = (): string => 'east'
  const balance = balanceOf(nodes, { zone })
  assert.deepEqual(fill(balance, nodes, 8), { b: 8, c: 0 })
  nodes[0] = { ...nodes[0]!, load: { cpu: 1 } }
  balance.setNodes(nodes, nodes, 1)
  balance.review(1)
  assert.ok(Math.abs(shareOf(balance, 'c') - 0.3) < 1e-9)
  for (let failure = 0; failure < 5; failure++) balance.load('b').failed(1000 + failure * 200)
  balance.review(2000)
  assert.equal(shareOf(balance, 'c'), 1)
  for (let client = 0; client < 8; client++) assert.equal(balance.choose(nodes, nodes[0])?.name, 'c')
  nodes[0] = { ...nodes[0], load: { cpu: 0 } }
  balance.setNodes(nodes, nodes, 9000)
  const back: number[] = []
  for (let nowMs = 9000; nowMs < 22_000; nowMs += 250) {
    balance.review(nowMs)
    while (!balance.mayStay('c') && balance.choose(nodes, nodes[1])?.name === 'b') continue
    back.push(balance.load('b').clients)
  }
  assert.equal(back.at(-1), 8)
  for (let at = 1; at < back.length; at++) assert.ok(back[at]! - back[at - 1]! <= 2, `${back}`)
})

test('explains a choice', () => {
  const nodes = [primary('a'), node('b'), node('c', { weight: 3 }), node('d', { zone: 'west' })]
  const lagging = node('e', { readable: false, reasons: ['not a replica candidate: lag 64 MB over 16 MB'] })
  const all = topology([...nodes, lagging])
  const balance = balanceOf(nodes.slice(1), { all: all.nodes })
  for (const name of ['c', 'd']) answers(balance, name, 1)
  for (let failure = 0; failure < 5; failure++) balance.load('b').failed(failure * 200)
  balance.review(1000)
  const told = explainChoice(all, 'replica', balance, ({ name }) =>
    name === 'd' ? 'has not replayed what was written' : undefined,
  )
  assert.deepEqual(
    told.map(({ isCandidate, node: name, reasons }) => [name, isCandidate, reasons]),
    [
      ['a', false, ['is a primary']],
      ['b', true, ['gets no reads for a while: 5 requests in a row failed at b']],
      ['c', true, []],
      ['d', false, ['has not replayed what was written']],
      ['e', false, ['not a replica candidate: lag 64 MB over 16 MB']],
    ],
  )
  const [a, b, c] = told
  assert.equal(a?.parts, undefined)
  assert.equal(b?.score, undefined)
  assert.deepEqual(c?.parts, {
    ...{
      clients: 0,
      share: 0.75,
      weight: 3,
      speed: 1,
      slowdown: 1,
      latencyMs: 5,
      headroom: 1,
      ramp: 1,
      zone: 1,
    },
  })
  assert.ok(Math.abs(c.score! - 1 / 0.75) < 1e-9)
  assert.deepEqual(
    explainChoice(all, 'primary', balance).filter(({ isCandidate }) => isCandidate),
    [{ node: 'a', isCandidate: true, reasons: [], score: undefined, parts: undefined }],
  )
})
