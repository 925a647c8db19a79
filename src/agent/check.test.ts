import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { silentLogger } from '../runtime/log.ts'
import { systemTimers } from '../runtime/timers.ts'
import type { NodeState, NodeStatus, TopologyNode } from '../topology/types.ts'
import { checkLine, startCheckServer, weightPercent } from './check.ts'

const status = { accepting: true, role: 'replica', load: { cpu: 0.2 } } as NodeStatus
const node = (state: NodeState, weight = 1): TopologyNode => ({ state, weight }) as TopologyNode

test('the weight falls with load, to a quarter at most', () => {
  assert.equal(weightPercent(1, undefined), 100)
  assert.equal(weightPercent(1, { cpu: 0 }), 100)
  assert.equal(weightPercent(1, { cpu: 1 }), 25)
  assert.equal(weightPercent(1, { cpu: 0.2, io: 0.4 }), 70)
  assert.equal(weightPercent(2, { cpu: 0 }), 200)
})

test('the weight is whole, within what HAProxy takes, and 0 only when the operator says so', () => {
  const loads = fc.option(fc.record({ cpu: fc.double({ noNaN: true }), io: fc.double({ noNaN: true }) }), {
    nil: undefined,
  })
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1000, noNaN: true }), loads, (weight, load) => {
      const percent = weightPercent(weight, load)
      assert.ok(Number.isInteger(percent) && percent <= 25_600)
      assert.equal(percent === 0, weight === 0)
    }),
  )
})

test('every line names both states, so that nothing said earlier stands', () => {
  assert.equal(checkLine(status, node('active')), 'up ready 85%\n')
  assert.equal(checkLine(status, undefined), 'up ready 85%\n')
  assert.equal(checkLine(status, node('active', 0)), 'up ready 0%\n')
  assert.equal(checkLine(status, node('drain')), 'up drain\n')
  assert.equal(checkLine(status, node('maintenance')), 'up maint\n')
  const down = { ...status, accepting: false, reason: 'nothing answers, here\r\nat a\u0000:1' }
  assert.equal(checkLine(down, node('active')), 'ready down #nothing answers, here at a :1\n')
  assert.equal(checkLine(down, node('drain')), 'drain down #nothing answers, here at a :1\n')
})

function ask(port: number, send?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', () => send && socket.write(send))
    socket.on('data', chunk => {
      text += chunk.toString()
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(text))
  })
}

test('one line a connection, whatever the other side sends', async () => {
  let line: string | undefined = 'up ready 80%\n'
  const server = await startCheckServer({
    host: '127.0.0.1',
    port: 0,
    line: () => line,
    timers: systemTimers,
    log: silentLogger,
  })
  try {
    assert.equal(await ask(server.port), 'up ready 80%\n')
    assert.equal(await ask(server.port, 'x'.repeat(100_000)), 'up ready 80%\n')
    line = undefined
    assert.equal(await ask(server.port), '')
  } finally {
    await server.close()
  }
  await assert.rejects(ask(server.port), /ECONNREFUSED/)
})

test('an address that is taken is named', async () => {
  const options = { host: '127.0.0.1', line: () => '', timers: systemTimers, log: silentLogger }
  const first = await startCheckServer({ ...options, port: 0 })
  try {
    await assert.rejects(
      startCheckServer({ ...options, port: first.port }),
      new RegExp(`cannot listen on 127.0.0.1:${first.port}`),
    )
  } finally {
    await first.close()
  }
})
