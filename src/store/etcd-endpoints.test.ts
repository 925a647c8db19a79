import assert from 'node:assert/strict'
import { createServer } from 'node:http2'
import { describe, it } from 'node:test'
import { freePorts } from '../../test/support/ports.ts'
import { SlowLink } from '../../test/support/slow-link.ts'
import { realWorld } from '../../test/support/stores.ts'
import { silentLogger } from '../runtime/log.ts'
import { pause, systemTimers } from '../runtime/timers.ts'
import { ConnectionTracker } from './connection.ts'
import { EtcdCaller } from './etcd-caller.ts'
import { EtcdEndpoints } from './etcd-endpoints.ts'
import { methods } from './etcd-messages.ts'

/** A caller of a member that takes connections and never answers a call. */
async function withMember(
  use: (parts: {
    caller: EtcdCaller
    endpoints: EtcdEndpoints
    link: SlowLink
    moves: string[]
  }) => Promise<void>,
  knock?: (target: string, limitMs: number) => Promise<boolean>,
): Promise<void> {
  const [port = 0] = await freePorts(1)
  const server = createServer().listen(port, '127.0.0.1')
  const link = await SlowLink.to(port)
  const moves: string[] = []
  const endpoints = new EtcdEndpoints({
    ...realWorld,
    log: silentLogger,
    endpoints: [`127.0.0.1:${link.port}`],
    tls: undefined,
    tracker: new ConnectionTracker(realWorld.clock, false),
    onMove: reason => void moves.push(reason),
    spreadMs: () => 0,
    ...(knock ? { knock } : {}),
  })
  const caller = new EtcdCaller({
    ...realWorld,
    endpoints,
    user: undefined,
    password: undefined,
    requestTimeoutMs: 500,
  })
  try {
    await use({ caller, endpoints, link, moves })
  } finally {
    endpoints.close()
    await link.close()
    server.close()
  }
}

describe('the members of etcd', () => {
  it('are asked many things at once without a warning', () =>
    withMember(async ({ caller }) => {
      const warnings: string[] = []
      const onWarning = ({ name }: Error): void => void warnings.push(name)
      process.on('warning', onWarning)
      try {
        const asked = Array.from({ length: 20 }, () => caller.call(methods.status, {}, { repeatable: true }))
        const answers = await Promise.allSettled(asked)
        assert.ok(answers.every(({ status }) => status === 'rejected'))
        assert.deepEqual(warnings, [])
      } finally {
        process.off('warning', onWarning)
      }
    }))

  it('keep a connection that came to stand while knocks were without an answer', async () => {
    let knocks = 0
    const knock = async (_target: string, limitMs: number): Promise<boolean> => {
      const isThrough = ++knocks > 3
      await pause(systemTimers, isThrough ? 300 : limitMs)
      return isThrough
    }
    await withMember(async ({ endpoints, link, moves }) => {
      link.delayMs = 1_100
      await endpoints.connect(2_000)
      const { current } = endpoints
      await pause(systemTimers, 1_000)
      assert.ok(knocks >= 3, `${knocks}`)
      assert.equal(endpoints.current, current)
      assert.ok(!current.gone.aborted)
      assert.deepEqual(moves, [])
    }, knock)
  })
})
