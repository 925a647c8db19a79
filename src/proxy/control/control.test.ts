import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { connect } from 'node:net'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, test } from 'node:test'
import { FakeTime, settle } from '../../../test/support/fake-time.ts'
import { freePorts } from '../../../test/support/ports.ts'
import { until } from '../../../test/support/wait.ts'
import { testSettings } from '../../../test/support/worker-settings.ts'
import { silentLogger } from '../../runtime/log.ts'
import { seededRandom } from '../../runtime/random.ts'
import { changeOf } from '../../topology/change.ts'
import type { Topology } from '../../topology/types.ts'
import { WorkerCounters } from '../counters.ts'
import { ProxyControl } from './control.ts'
import type { FromWorker, ToWorker } from './ipc.ts'

/** A worker's process that does what the test says. */
class FakeChild extends EventEmitter {
  readonly pid = 1
  connected = true
  readonly stdout = new PassThrough()
  readonly stderr = new PassThrough()
  readonly sent: ToWorker[] = []
  readonly killed: string[] = []

  send(message: ToWorker): boolean {
    this.sent.push(message)
    return true
  }

  kill(signal: string): boolean {
    this.killed.push(signal)
    this.exit(signal)
    return true
  }

  exit(signal: string): void {
    this.connected = false
    this.emit('exit', null, signal)
  }

  say(message: FromWorker): void {
    this.emit('message', message)
  }

  beat(): void {
    this.say({ kind: 'counters', counters: new WorkerCounters().data() })
  }

  boot(): void {
    this.say({ kind: 'loaded' })
    this.say({ kind: 'ready' })
  }

  got<K extends ToWorker['kind']>(kind: K): Extract<ToWorker, { kind: K }>[] {
    return this.sent.filter((message): message is Extract<ToWorker, { kind: K }> => message.kind === kind)
  }
}

let time: FakeTime
let children: FakeChild[]
let control: ProxyControl
let port: number
let lines: string[]
let applied: number[]
/** How long this process has stood still: no timer ran, and no message was read. */
let awayMs: number

beforeEach(async () => {
  time = new FakeTime()
  children = []
  lines = []
  applied = []
  awayMs = 0
  port = (await freePorts(1))[0]!
  control = new ProxyControl({
    settings: testSettings({ port }),
    workers: 2,
    inherited: [],
    clock: { nowMs: () => time.nowMs() + awayMs, wallMs: () => 0 },
    timers: time,
    random: seededRandom(1),
    log: silentLogger,
    writeLog: text => void lines.push(text),
    onSuspect: () => undefined,
    fleet: { prefix: 7, passOn: (_, secret) => Promise.resolve(secret[0] === 9) },
    onApplied: revision => void applied.push(revision),
    operator: { version: '0', config: () => [], commands: undefined },
    memory: () => process.memoryUsage(),
    fork: () => {
      const child = new FakeChild()
      children.push(child)
      return child as unknown as ChildProcess
    },
  })
})

afterEach(async () => {
  const stopping = control.stop()
  for (const child of children) if (child.connected) child.exit('SIGTERM')
  await stopping
})

async function start(): Promise<void> {
  const starting = control.start()
  for (const child of children) child.boot()
  await starting
}

/** Time passes, and the workers that live are heard. */
async function beatFor(durationMs: number, beating = children): Promise<void> {
  for (let passedMs = 0; passedMs < durationMs; passedMs += 250) {
    await time.pass(250)
    for (const child of beating) if (child.connected) child.beat()
  }
}

const topology = (intentRevision: number): Topology => ({ intentRevision, nodes: [] as unknown }) as Topology

test('limits are divided among the workers', async () => {
  await start()
  const [settings] = children[0]!.got('settings')
  assert.deepEqual([settings?.settings.clientsMax, settings?.settings.pool.poolSize], [50, 3])
})

test('a worker that is silent is killed and replaced, one that is heard is not', async () => {
  await start()
  await beatFor(4000, [children[1]!])
  assert.deepEqual(children[0]!.killed, [])
  await beatFor(3000, [children[1]!])
  assert.deepEqual([children[0]!.killed, children[1]!.killed], [['SIGKILL'], []])
  assert.equal(children.length, 3)
  assert.equal(control.crashes, 1)
  children[2]!.boot()
  await beatFor(10_000)
  assert.equal(control.crashes, 1)
})

test('a control process that was stopped itself listens before it judges', async () => {
  await start()
  await beatFor(2000)
  awayMs = 60_000
  await time.pass(1000)
  await beatFor(10_000)
  assert.equal(control.crashes, 0)
})

test('a worker that never gets as far as to load is killed and tried again', async () => {
  await start()
  children[0]!.exit('SIGSEGV')
  await time.pass(1000)
  assert.equal(children.length, 3)
  await beatFor(15_000, [children[1]!])
  assert.deepEqual(children[2]!.killed, [])
  await beatFor(10_000, [children[1]!])
  assert.deepEqual(children[2]!.killed, ['SIGKILL'])
  await beatFor(2000, [children[1]!])
  assert.equal(children.length, 4)
})

test('a worker that cannot start again is tried again, after a pause each time', async () => {
  await start()
  children[0]!.exit('SIGKILL')
  for (let tries = 3; tries < 8; tries++) {
    await time.pass(900)
    assert.ok(children.length <= tries)
    await time.pass(100)
    assert.equal(children.length, tries)
    children[1]!.beat()
    children.at(-1)!.say({ kind: 'loaded' })
    children.at(-1)!.exit('1')
    await settle()
  }
  await time.pass(1000)
  children.at(-1)!.boot()
  assert.equal(control.workers.length, 2)
})

test('a start that fails says which worker ended, and leaves nothing behind', async () => {
  const starting = control.start()
  children[0]!.boot()
  children[1]!.exit('SIGKILL')
  setImmediate(() => children[0]!.exit('SIGTERM'))
  await assert.rejects(starting, /data worker 1 ended while it started: SIGKILL/)
  await time.pass(5000)
  assert.equal(children.length, 2)
})

test('a worker that does not apply a topology gets no other, and then the newest', async () => {
  await start()
  const [slow, quick] = children as [FakeChild, FakeChild]
  for (let revision = 1; revision <= 1000; revision++) {
    control.setTopology(topology(revision))
    quick.say({ kind: 'applied', revision })
  }
  assert.equal(quick.got('topology').length, 1000)
  assert.equal(slow.got('topology').length, 1)
  assert.deepEqual(applied, [])
  slow.say({ kind: 'applied', revision: 1 })
  slow.say({ kind: 'applied', revision: 1000 })
  assert.deepEqual(
    slow.got('topology').map(({ change }) => [change.intentRevision, change.isWhole]),
    [
      [1, true],
      [1000, false],
    ],
  )
  assert.deepEqual(applied, [1, 1000])
})

test('a worker that is started later gets the newest topology', async () => {
  await start()
  control.setTopology(topology(1))
  children[0]!.exit('SIGKILL')
  control.setTopology(topology(2))
  await time.pass(1000)
  children[2]!.say({ kind: 'loaded' })
  assert.deepEqual(children[2]!.got('topology'), [])
  children[2]!.say({ kind: 'ready' })
  assert.deepEqual(children[2]!.got('topology'), [
    { kind: 'topology', change: changeOf(undefined, topology(2)) },
  ])
})

test('a stop while a worker boots kills it at once', async () => {
  await start()
  children[0]!.exit('SIGKILL')
  await time.pass(1000)
  const stopping = control.stop()
  assert.deepEqual(children[2]!.killed, ['SIGKILL'])
  assert.deepEqual(children[1]!.got('stop'), [{ kind: 'stop' }])
  children[1]!.exit('0')
  await stopping
})

test('a connection that a worker has not taken when it dies goes to another', async () => {
  await start()
  const clients = [connect(port, '127.0.0.1'), connect(port, '127.0.0.1')]
  const [first, second] = children as [FakeChild, FakeChild]
  await until('each has one', () => first.got('connection').length + second.got('connection').length === 2)
  assert.equal(first.got('connection').length, 1)
  first.exit('SIGKILL')
  await until('the other has both', () => second.got('connection').length === 2)
  const ended = clients.map(client => new Promise<void>(resolve => client.once('close', () => resolve())))
  // Here nobody else holds what was taken: to let go of it ends it.
  const connections = second.got('connection').map(({ connection }) => connection)
  second.say({ kind: 'taken', connections, clients: 1 })
  await Promise.all(ended)
})

test('a cancel request that a worker does not know goes to the others, and its answer back', async () => {
  await start()
  const [asker, other] = children as [FakeChild, FakeChild]
  asker.say({ kind: 'cancel', processId: 5, secret: '00', isPassedOn: false, request: 9 })
  const [question] = other.got('cancel')
  other.say({ kind: 'cancelled', request: question!.request, found: true })
  assert.deepEqual(asker.got('cancelled'), [{ kind: 'cancelled', request: 9, found: true }])
})

test('a cancel request that no worker knows goes to the proxy that its key names, but only once', async () => {
  await start()
  const [asker, other] = children as [FakeChild, FakeChild]
  assert.deepEqual(asker.got('cancel_prefix'), [{ kind: 'cancel_prefix', prefix: 7 }])
  const ask = (secret: string, isPassedOn: boolean): void => {
    asker.say({ kind: 'cancel', processId: 5, secret, isPassedOn, request: 9 })
    other.say({ kind: 'cancelled', request: other.got('cancel').at(-1)!.request, found: false })
  }
  ask('09000000', false)
  await settle()
  ask('09000000', true)
  ask('08000000', false)
  await settle()
  assert.deepEqual(
    asker.got('cancelled').map(({ found }) => found),
    [true, false, false],
  )
})

test('what workers write is passed on in whole lines', async () => {
  await start()
  const [a, b] = children as [FakeChild, FakeChild]
  a.stderr.write('{"half":')
  b.stderr.write('{"other":1}\n')
  a.stderr.write('1}\n{"two":2}\nrest')
  await settle()
  assert.deepEqual(lines, ['{"other":1}\n', '{"half":1}\n{"two":2}\n'])
  a.stderr.write('x'.repeat(70_000))
  await settle()
  assert.equal(lines.length, 3, 'a line without an end is not kept for ever')
  b.stdout.end('last words')
  await settle()
  assert.equal(lines.at(-1), 'last words\n')
})
