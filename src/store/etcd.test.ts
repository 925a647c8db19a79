import assert from 'node:assert/strict'
import { type AddressInfo, createServer } from 'node:net'
import { afterEach, beforeEach, describe, it } from 'node:test'
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import { Collector, openEtcd, put, write } from '../../test/support/stores.ts'
import { until } from '../../test/support/wait.ts'
import { systemClock } from '../runtime/clock.ts'
import { systemTimers } from '../runtime/timers.ts'
import { definitions } from './etcd-messages.ts'
import type { Store } from './store.ts'

type Reply = object | { code: status; details: string } | 'hang'

interface WatchRequest {
  createRequest: { startRevision: string }
}

/** A member of an etcd cluster that says what the test wants it to say. */
class PlayedMember {
  url = ''
  header = { clusterId: '7', memberId: '1', revision: '10', raftTerm: '3' }
  ranges = 0
  txns = 0
  onRange: () => Reply = () => ({ kvs: [] })
  onTxn: () => Reply = () => ({ succeeded: true })
  logins = 0
  loginMs = 0
  onWatch: (stream: ServerDuplexStream<unknown, object>, fromRevision: number) => void = () => undefined
  private readonly server = new Server()

  async start(): Promise<void> {
    const unary =
      (reply: () => Reply) =>
      (_call: ServerUnaryCall<unknown, unknown>, respond: sendUnaryData<unknown>): void => {
        const answer = reply()
        if (answer === 'hang') return
        if ('code' in answer) respond(answer)
        else respond(null, { header: this.header, ...answer })
      }
    this.server.addService(definitions['etcdserverpb.KV'] as ServiceDefinition, {
      Range: unary(() => {
        this.ranges++
        return this.onRange()
      }),
      Txn: unary(() => {
        this.txns++
        return this.onTxn()
      }),
    })
    this.server.addService(definitions['etcdserverpb.Watch'] as ServiceDefinition, {
      Watch: (stream: ServerDuplexStream<WatchRequest, object>) => {
        stream.on('error', () => undefined)
        stream.on('data', ({ createRequest }: WatchRequest) => {
          stream.write({ header: this.header, created: true })
          this.onWatch(stream, Number(createRequest.startRevision))
        })
      },
    })
    const ofAuth = definitions['etcdserverpb.Auth'] as ServiceDefinition
    this.server.addService(
      { Authenticate: ofAuth['Authenticate']! },
      {
        Authenticate: (_call: unknown, respond: sendUnaryData<unknown>) => {
          this.logins++
          systemTimers.after(this.loginMs, () => respond(null, { header: this.header, token: 't' }))
        },
      },
    )
    this.server.addService(definitions['etcdserverpb.Maintenance'] as ServiceDefinition, {
      Status: unary(() => ({})),
    })
    const port = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      )
    })
    this.url = `127.0.0.1:${port}`
  }

  stop(): void {
    this.server.forceShutdown()
  }
}

function event(revision: number): object {
  return { type: 'PUT', kv: { key: Buffer.from('/a'), value: Buffer.from('1'), modRevision: revision } }
}

describe('etcd client against played members', () => {
  let a: PlayedMember
  let b: PlayedMember
  let store: Store
  beforeEach(async () => {
    a = new PlayedMember()
    b = new PlayedMember()
    await Promise.all([a.start(), b.start()])
    store = await openEtcd([a.url, b.url], { requestTimeoutMs: 900 })
  })
  afterEach(async () => {
    await store.close()
    a.stop()
    b.stop()
  })

  it('does not believe a member whose raft term is behind, and asks another', async () => {
    a.header = { ...a.header, raftTerm: '5' }
    await store.get('/a')
    a.header = { ...a.header, raftTerm: '4' }
    b.header = { ...b.header, raftTerm: '5', revision: '11' }
    assert.equal((await store.get('/a')).revision, 11)
    assert.deepEqual([a.ranges, b.ranges], [2, 1])
    b.header = { ...b.header, raftTerm: '3' }
    await assert.rejects(store.get('/a'), {
      code: 'unavailable',
      message: /raft term [34] although 5 was seen/,
    })
  })

  it('does not believe a member whose data are older than what was seen, neither in answers nor in a watch', async () => {
    a.header = { ...a.header, revision: '20' }
    assert.equal((await store.get('/a')).revision, 20)
    a.header = { ...a.header, revision: '19' }
    b.header = { ...b.header, revision: '21' }
    assert.equal((await store.list('/')).revision, 21)
    b.header = { ...b.header, revision: '20' }
    const message = /revision (19|20) although 21 was seen.*restart this process/
    await assert.rejects(store.get('/a'), { code: 'unavailable', message })
    assert.equal(store.connection.up, false)
    // A write's outcome is unknown then: it may have been taken by whoever has the newer data.
    await assert.rejects(write(store, put('/a', '1')), { code: 'unavailable', message: /is unknown/ })
    const asked: string[] = []
    for (const [name, member] of Object.entries({ a, b })) member.onWatch = () => asked.push(name)
    const watch = new Collector(store, '/', 22)
    await until('both to be asked', () => asked.includes('a') && asked.includes('b'))
    assert.equal(store.connection.up, false)
    const told: { header: object; events: object[] } = { header: {}, events: [event(22)] }
    a.header = { ...a.header, revision: '22' }
    a.onWatch = stream => stream.write({ ...told, header: a.header })
    await watch.reaches(22)
    watch.close()
  })

  it('does not believe a member of another cluster', async () => {
    await store.get('/a')
    a.stop()
    b.header = { ...b.header, clusterId: '8' }
    await assert.rejects(store.get('/a'), { code: 'unavailable' })
    assert.ok(b.ranges > 0)
  })

  it('repeats a read on another member, and a write only where the first certainly did nothing', async () => {
    a.onRange = () => 'hang'
    assert.equal((await store.get('/a')).revision, 10)
    assert.equal(a.ranges, 1)
    b.onTxn = () => 'hang'
    await assert.rejects(write(store, put('/a', '1')), {
      code: 'unavailable',
      message: /read before trying again/,
    })
    assert.deepEqual([a.txns, b.txns], [0, 1])
    // The next one goes to the other member, whose refusal is certain.
    a.onTxn = () => ({ code: status.UNAVAILABLE, details: 'etcdserver: no leader' })
    b.onTxn = () => ({ succeeded: true })
    assert.equal(await write(store, put('/a', '1')), 10)
    assert.deepEqual([a.txns, b.txns], [1, 2])
    b.onTxn = () => ({ code: status.UNKNOWN, details: 'etcdserver: too many requests' })
    a.onTxn = () => ({ succeeded: true })
    assert.equal(await write(store, put('/a', '1')), 10)
    assert.deepEqual([a.txns, b.txns], [2, 3])
    a.onTxn = () => ({ code: status.UNAVAILABLE, details: 'etcdserver: request timed out' })
    await assert.rejects(write(store, put('/a', '1')), {
      code: 'unavailable',
      message: /read before trying again/,
    })
    assert.deepEqual([a.txns, b.txns], [3, 3])
  })

  it('a write finds the member that is there, without a doubt about it', async () => {
    a.stop()
    assert.equal(await write(store, put('/a', '1')), 10)
    assert.equal(b.txns, 1)
  })

  it('throws away what a member tells again, and splits what it tells together', async () => {
    const asked: number[] = []
    const play =
      (...batches: number[][]) =>
      (stream: ServerDuplexStream<unknown, object>, fromRevision: number): void => {
        asked.push(fromRevision)
        for (const batch of batches) stream.write({ header: a.header, events: batch.map(event) })
        if (asked.length < 4) stream.emit('error', { code: status.UNAVAILABLE, details: 'going away' })
      }
    a.onWatch = play([5], [6, 6, 7])
    b.onWatch = play([5], [6, 6, 7], [7, 8])
    const watch = new Collector(store, '/', 5)
    await until('four connections', () => asked.length === 4)
    await watch.reaches(8)
    watch.close()
    assert.deepEqual(
      watch.steps.map(step => [step.revision, step.events.length]),
      [
        [5, 1],
        [6, 2],
        [7, 1],
        [8, 1],
      ],
    )
    assert.equal(asked[0], 5)
    assert.deepEqual(asked.slice(1), [8, 9, 9])
  })

  it('tries a member that is away rarely, however many want something of it', async () => {
    let connections = 0
    const away = createServer(socket => {
      connections++
      socket.destroy()
    })
    await new Promise<void>(resolve => away.listen(0, '127.0.0.1', resolve))
    const hopeful = await openEtcd([`127.0.0.1:${(away.address() as AddressInfo).port}`])
    try {
      const watches = [1, 2, 3].map(from => new Collector(hopeful, '/', from))
      let failures = 0
      const fromMs = systemClock.nowMs()
      while (systemClock.nowMs() < fromMs + 3_000) {
        const asked = [1, 2, 3, 4].map(() => write(hopeful, put('/a', '1')).catch(() => failures++))
        await Promise.all(asked)
      }
      const seconds = (systemClock.nowMs() - fromMs) / 1000
      assert.ok(failures > 0)
      assert.ok(connections > 0 && connections < 8 + 4 * seconds, `${connections} in ${seconds} s`)
      for (const watch of watches) watch.close()
    } finally {
      await hopeful.close()
      await new Promise(resolve => away.close(resolve))
    }
  })

  it('waits for a login that takes long instead of asking for it again', async () => {
    a.loginMs = 1_500
    const patient = await openEtcd([a.url, b.url], { requestTimeoutMs: 300, user: 'u', password: 'p' })
    await assert.rejects(patient.get('/a'), { code: 'unavailable', message: /not answered the login yet/ })
    await until('the login to come through', () => patient.get('/a'))
    assert.deepEqual([a.logins, b.logins], [1, 0])
    await patient.close()
  })

  it('a watch that is closed here says nothing about the member', async () => {
    const watch = new Collector(store, '/', 5)
    await until('the watch to stand', () => store.connection.up)
    watch.close()
    await store.get('/a')
    await store.get('/a')
    assert.deepEqual([a.ranges, b.ranges], [2, 0])
  })

  it('opens a watch again that the server refuses or ends', async () => {
    let opened = 0
    a.onWatch = stream => {
      opened++
      if (opened === 1) stream.write({ header: a.header, canceled: true, cancelReason: 'permission denied' })
      if (opened === 2) stream.end()
      if (opened === 3) stream.write({ header: a.header, events: [event(12)] })
    }
    const watch = new Collector(store, '/', 5)
    await watch.reaches(12)
    watch.close()
  })
})
