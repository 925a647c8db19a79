import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { WorkerCounters } from '../proxy/counters.ts'
import { keysOf } from '../topology/keys.ts'
import { ClusterState } from '../topology/state.ts'
import { buildTopology } from '../topology/topology.ts'
import type { TopologyNode } from '../topology/types.ts'
import { type DemoMoment, ratesBetween, renderDemo } from './demo-view.ts'

function moment(): DemoMoment {
  const defaults = { replicaLagBytesMax: 0, readFallback: 'primary', drainTimeoutMs: 0 } as const
  const empty = buildTopology('main', new ClusterState(keysOf('main')), defaults)
  const node = {
    name: 'a',
    role: 'primary',
    host: '127.0.0.1',
    port: 15_432,
    writable: false,
    readable: false,
    reasons: ['it '.repeat(60)],
    connections: { max: 200, used: 5 },
    lagBytes: 40_960,
    lagMs: 1234,
  } as unknown as TopologyNode
  const nodes = ['a', 'b', 'c'].map(name => ({ ...node, name }))
  return {
    topology: { ...empty, nodes, alarms: ['alarm '.repeat(30)] },
    counters: new WorkerCounters().data(),
    load: { reads: 1_000_000, writes: 1_000_000, errors: 4, lastError: 'an error '.repeat(20) },
    nowMs: 1000,
  }
}

const events = Array.from({ length: 30 }, (_, index) => `event ${index} ${'long '.repeat(40)}`)

for (const [width, height] of [
  [80, 24],
  [130, 45],
  [60, 12],
  [20, 5],
] as const) {
  for (const colour of [false, true]) {
    test(`the view fits ${width}x${height}${colour ? ' with colours' : ''}`, () => {
      const now = moment()
      const view = renderDemo(now, ratesBetween(undefined, now), events, { colour, width, height })
      const lines = stripVTControlCharacters(view).split('\n').slice(0, -1)
      assert.ok(lines.length <= height - 1, `${lines.length} lines`)
      for (const line of lines) assert.ok(line.length <= width, line)
      if (height < 24) return
      assert.equal(lines.length, height === 24 ? 23 : 42, 'as many events as fit')
      assert.match(lines[0] ?? '', width === 80 ? /TAKES .* REQUESTS\/S$/ : /TAKES .* LAG TIME .* ADDRESS$/)
      assert.match(lines.at(-1) ?? '', /^event 29 /)
    })
  }
}
