import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Action, decide, type ServerFacts } from './supervise.ts'

const nowMs = 1000

function primary(name: string, facts: Partial<ServerFacts> = {}): ServerFacts {
  return {
    name,
    running: true,
    role: 'primary',
    timeline: 1,
    follows: undefined,
    ended: undefined,
    cameBack: false,
    brokenStream: undefined,
    busy: false,
    notBeforeMs: 0,
    ...facts,
  }
}

function replica(name: string, follows: string, facts: Partial<ServerFacts> = {}): ServerFacts {
  return primary(name, { role: 'replica', timeline: 0, follows, ...facts })
}

const crashed = { running: false, ended: 'crashed', cameBack: true } as const
const stopped = { running: false, ended: 'stopped', cameBack: true } as const

const kinds = (actions: Action[]): string[] => actions.map(({ kind, node }) => `${kind} ${node}`)

describe('the decision of the demo supervisor', () => {
  it('does nothing about servers that are well', () => {
    const decision = decide('a', [primary('a'), replica('b', 'a'), replica('c', 'a')], nowMs)
    assert.deepEqual(decision, { leader: 'a', actions: [] })
  })

  it('restarts what crashed as what it was, once its pause is over', () => {
    const servers = [primary('a', crashed), replica('b', 'a', { ...crashed, notBeforeMs: nowMs + 1 })]
    assert.deepEqual(kinds(decide('a', servers, nowMs).actions), ['restart a'])
    assert.deepEqual(kinds(decide('a', servers, nowMs + 1).actions), ['restart a', 'restart b'])
  })

  it('leaves alone what was stopped by hand', () => {
    assert.deepEqual(decide('a', [primary('a', stopped), replica('b', 'a', stopped)], nowMs).actions, [])
  })

  it('lets the other replicas follow one that was promoted', () => {
    const servers = [primary('a', stopped), primary('b', { timeline: 2 }), replica('c', 'a')]
    const decision = decide('a', servers, nowMs)
    assert.equal(decision.leader, 'b')
    assert.deepEqual(kinds(decision.actions), ['follow c'])
  })

  it('makes a crashed primary anew as a replica of the one that took over', () => {
    const servers = [primary('a', crashed), primary('b', { timeline: 2 }), replica('c', 'b')]
    assert.deepEqual(kinds(decide('a', servers, nowMs).actions), ['rebuild a'])
  })

  it('does not bring a former primary back while its successor is down', () => {
    const servers = [primary('a', crashed), primary('b', stopped), replica('c', 'b')]
    assert.deepEqual(decide('b', servers, nowMs).actions, [])
  })

  it('makes a former primary anew that was started again by hand', () => {
    const servers = [primary('a', { cameBack: true }), primary('b', { timeline: 2 })]
    assert.deepEqual(kinds(decide('b', servers, nowMs).actions), ['rebuild a'])
  })

  it('warns once of a second primary that never went away, and touches neither', () => {
    const servers = [primary('a'), primary('b', { timeline: 2 })]
    assert.deepEqual(kinds(decide('a', servers, nowMs).actions), ['warn a'])
    assert.deepEqual(decide('b', servers, nowMs).actions, [])
  })

  it('keeps the leader of two primaries on one timeline', () => {
    assert.equal(decide('b', [primary('a'), primary('b')], nowMs).leader, 'b')
  })

  it('makes a replica anew that can never follow again, but not while nobody leads', () => {
    const broken = replica('c', 'b', { brokenStream: 'requested WAL segment has already been removed' })
    assert.deepEqual(kinds(decide('b', [primary('b'), broken], nowMs).actions), ['rebuild c'])
    assert.deepEqual(decide('b', [primary('b', stopped), broken], nowMs).actions, [])
    const down = { ...broken, ...crashed }
    assert.deepEqual(kinds(decide('b', [primary('b'), down], nowMs).actions), ['rebuild c'])
    assert.deepEqual(decide('b', [primary('b', stopped), down], nowMs).actions, [])
  })

  it('starts nothing on a server that an earlier action is still busy with', () => {
    const servers = [
      primary('b', { timeline: 2 }),
      primary('a', { ...crashed, busy: true }),
      replica('c', 'a', { busy: true }),
    ]
    assert.deepEqual(decide('a', servers, nowMs), { leader: 'b', actions: [] })
  })
})
