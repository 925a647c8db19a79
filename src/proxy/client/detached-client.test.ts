import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { describe, test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { silentLogger } from '../../runtime/log.ts'
import { readyForQueryIdle, terminate, writeQuery } from '../../wire/messages.ts'
import { Database } from '../catalog/database.ts'
import { WorkerCounters } from '../counters.ts'
import type { Lane } from '../lanes/lane.ts'
import { PooledSession } from '../session/pooled-session.ts'
import { Settings, StartupForms } from '../session/settings.ts'
import type { Arrival } from '../startup/client-startup.ts'
import { DatabaseStats } from '../stats.ts'
import { ClientState as State } from './client-connection.ts'
import type { ClientHost } from './client-host.ts'
import { TransactionDesk } from './deferred-begin.ts'
import { DetachedClient } from './detached-client.ts'

const read = writeQuery('select 1')
const write = writeQuery('insert into t values (1)')
const nothing = Buffer.alloc(0)

/** A client that has logged in and never gets a server connection of its own. */
class Detached extends DetachedClient {
  readonly server = undefined
  readonly isBetweenMessages = true
  reason: string | undefined

  constructor(socket: Duplex, host: ClientHost) {
    const arrival: Partial<Arrival> = {
      address: '?:0',
      ahead: nothing,
      database: 'd',
      parameters: new Map([['user', 'u']]),
      route: 'primary',
      socket: socket as Socket,
      tls: '',
      user: 'u',
    }
    super(arrival as Arrival, host)
    this.session = new PooledSession(Settings.none)
    this.state = State.Resting
  }

  get isResting(): boolean {
    return this.state === State.Resting
  }

  get isSharing(): boolean {
    return this.state === State.Sharing
  }

  get waits(): Buffer {
    return this.ahead
  }

  onPiece(chunk: Buffer): void {
    if (this.isWithoutServer) this.wake(chunk)
    else this.keepAhead(chunk)
  }

  cancel(): void {
    this.cancelAhead()
  }

  idleMs(): undefined {
    return undefined
  }

  onDrain(): void {}
  onHalfClosed(): void {}
  onFinished(_before: State, reason: string): void {
    this.reason = reason
  }
}

/** A client and the worker around it. */
class Scene {
  readonly time = new FakeTime()
  /** What it was told. */
  told = ''
  /** How often a server connection was looked for in vain. */
  acquired = 0
  abandoned = 0
  /** Where its requests go can be told at once. */
  directs = true
  /** Undefined: no lane takes anything. */
  lane: Lane | undefined
  /** The node that its request goes to is ready. */
  ready: () => void = () => assert.fail('no node is waited for')
  isWanted: () => boolean = () => assert.fail('no node is waited for')
  readonly client: Detached

  constructor() {
    const { time } = this
    const database = new Database(time, () => undefined)
    const stats = new DatabaseStats()
    const host: Partial<ClientHost> = {
      abandon: () => this.abandoned++,
      acquire: () => this.acquired++,
      clock: time,
      counters: new WorkerCounters(),
      direct: () => this.directs,
      explain: () => undefined,
      log: silentLogger,
      modeOf: () => 'auto',
      share: () => this.lane,
      startups: new StartupForms(),
      statsOf: () => stats,
      timers: time,
      transactions: new TransactionDesk({ knowledgeOf: () => database, defers: () => true }),
      whenReady: (_client, isWanted, done) => {
        this.isWanted = isWanted
        this.ready = done
      },
    }
    const socket = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        this.told += codesOf(chunk)
        done()
      },
    })
    this.client = new Detached(
      Object.assign(socket, { destroySoon: () => socket.destroy() }),
      host as ClientHost,
    )
  }

  /** The client has sent this. */
  say(...messages: Buffer[]): void {
    for (const message of messages) this.client.onData(message)
  }
}

function codesOf(messages: Buffer): string {
  let codes = ''
  for (let at = 0; at < messages.length; at += 1 + messages.readUInt32BE(at + 1))
    codes += String.fromCharCode(messages[at]!)
  return codes
}

const lane = { server: { target: { node: 'b' } } } as Lane

describe('a client without a server connection', () => {
  test('what it asks for has it wait for one', () => {
    const scene = new Scene()
    scene.say(read.subarray(0, 7))
    assert.equal(scene.acquired, 0, 'not for half a request')
    scene.say(read.subarray(7))
    assert.equal(scene.acquired, 1)
    assert.equal(scene.client.isWaiting, true)
    assert.deepEqual(scene.client.waits, read)
  })

  test('it begins and ends a transaction without one', () => {
    const scene = new Scene()
    scene.say(writeQuery('begin'))
    assert.ok(scene.client.begun)
    scene.say(writeQuery('commit'))
    assert.equal(scene.client.begun, undefined)
    assert.equal(scene.told, 'CZCZ')
    assert.equal(scene.acquired, 0)
    assert.equal(scene.client.isResting, true)
  })

  test('it says goodbye', () => {
    const scene = new Scene()
    scene.say(terminate)
    assert.equal(scene.client.reason, 'client_closed')
  })

  test('what comes behind a request that waits for its node is looked at together with it', () => {
    const scene = new Scene()
    scene.directs = false
    scene.lane = lane
    scene.say(read, write)
    assert.equal(scene.isWanted(), true)
    scene.directs = true
    scene.lane = undefined
    scene.ready()
    assert.deepEqual(scene.client.waits, Buffer.concat([read, write]))
    assert.equal(scene.acquired, 1)
    assert.equal(scene.isWanted(), false)
  })

  test('cancelled while it waits, its request is answered, and the next one is looked at', () => {
    const scene = new Scene()
    scene.say(read, write)
    scene.client.cancel()
    assert.equal(scene.told, 'EZ')
    assert.equal(scene.abandoned, 1)
    assert.deepEqual(scene.client.waits, write)
    assert.equal(scene.acquired, 2)
  })

  test('cancelled in a transaction that no server knows of, that has failed', () => {
    const scene = new Scene()
    scene.say(writeQuery('begin'), read)
    scene.client.cancel()
    assert.equal(scene.client.begun?.hasFailed, true)
    assert.equal(scene.client.isWaiting, false)
  })

  test('a lane answers it, and what has come meanwhile is next', () => {
    const scene = new Scene()
    scene.lane = lane
    scene.say(read)
    assert.equal(scene.client.isSharing, true)
    assert.equal(scene.client.readOn, 'b')
    scene.lane = undefined
    scene.say(write)
    scene.client.deliver(readyForQueryIdle, true)
    assert.equal(scene.told, 'Z')
    assert.equal(scene.client.isWaiting, true)
    assert.deepEqual(scene.client.waits, write)
  })

  test('what a lane gives back goes to another one, unless it is to be alone', () => {
    const scene = new Scene()
    scene.lane = lane
    scene.say(read)
    scene.client.giveBack(read, false)
    assert.equal(scene.client.isSharing, true)
    scene.say(write)
    scene.client.giveBack(read, true)
    assert.equal(scene.client.isWaiting, true)
    assert.deepEqual(scene.client.waits, Buffer.concat([read, write]))
    assert.equal(scene.client.freshOn, '')
  })

  test('an answer that is torn ends it', () => {
    const scene = new Scene()
    scene.lane = lane
    scene.say(read)
    scene.client.loseAnswer('gone')
    assert.equal(scene.client.reason, 'server_lost')
    scene.client.deliver(readyForQueryIdle, true)
    assert.equal(scene.told, 'E', 'what comes later is not for it')
  })
})
