import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeTime } from '../../test/support/fake-time.ts'
import { type LeavingClient, Shutdown } from './shutdown.ts'

class Client implements LeavingClient {
  readonly #all: Set<Client>
  wantsNothing = false
  mayMove = false
  idleSinceMs: number | undefined
  told: string | undefined

  constructor(all: Set<Client>) {
    this.#all = all
    all.add(this)
  }

  idleMs(nowMs: number): number | undefined {
    return this.idleSinceMs === undefined ? undefined : nowMs - this.idleSinceMs
  }

  end(reason: string, message: string): void {
    assert.equal(reason, 'shutdown')
    this.told = message
    this.#all.delete(this)
  }
}

function newShutdown() {
  const time = new FakeTime()
  const clients = new Set<Client>()
  const arriving = new Set<Client>()
  const log: string[] = []
  const shutdown = new Shutdown<Client>({
    clock: time,
    timers: time,
    timeoutMs: () => 5000,
    arriving: () => arriving,
    clients: () => clients,
    isEmpty: () => clients.size + arriving.size === 0,
    handOver: client => client.mayMove && client.wantsNothing && clients.delete(client),
    closeDoors: () => log.push('doors closed'),
    endConsole: atOnce => log.push(atOnce ? 'console cut' : 'console told'),
    onEmpty: () => log.push('empty'),
  })
  return { arriving, clients, log, shutdown, time }
}

test('who wants nothing goes at once, who is answered after that, and the last one ends it', async () => {
  const { arriving, clients, log, shutdown, time } = newShutdown()
  const [resting, busy, silent] = [new Client(clients), new Client(clients), new Client(arriving)]
  resting.wantsNothing = true
  shutdown.stop()
  shutdown.stop()
  assert.match(resting.told!, /shutting down/)
  assert.match(silent.told!, /shutting down/)
  assert.deepEqual([busy.told, log], [undefined, ['doors closed', 'console told']])
  busy.wantsNothing = true
  await time.pass(20)
  assert.match(busy.told!, /shutting down/)
  shutdown.onGone()
  assert.deepEqual(log, ['doors closed', 'console told', 'empty'])
  // Nothing is looked at any more.
  const late = new Client(clients)
  await time.pass(10_000)
  assert.equal(late.told, undefined)
})

test('what runs for too long is cut off', async () => {
  const { clients, log, shutdown, time } = newShutdown()
  const busy = new Client(clients)
  shutdown.stop()
  await time.pass(4999)
  assert.equal(busy.told, undefined)
  await time.pass(1)
  assert.match(busy.told!, /shutting down/)
  assert.deepEqual(log, ['doors closed', 'console told', 'console cut'])
})

test('of a worker that is replaced clients go on elsewhere where they can, others when they were idle', async () => {
  const { clients, log, shutdown, time } = newShutdown()
  const [movable, tied, soon, busy] = Array.from({ length: 4 }, () => new Client(clients))
  Object.assign(movable!, { mayMove: true, wantsNothing: true })
  Object.assign(tied!, { wantsNothing: true, idleSinceMs: 0 })
  // At rest, but not all that it was sent has left.
  Object.assign(soon!, { mayMove: true, idleSinceMs: 0 })
  shutdown.drain()
  shutdown.drain()
  assert.deepEqual([...clients], [tied, soon, busy])
  assert.equal(shutdown.isStopping, false)
  await time.pass(1020)
  assert.match(tied!.told!, /is being replaced/)
  assert.equal(movable!.told, undefined)
  assert.deepEqual([...clients], [soon, busy])
  await time.pass(4000)
  assert.match(busy!.told!, /is being replaced/)
  assert.deepEqual([shutdown.isStopping, clients.size, log.at(-1)], [true, 0, 'empty'])
})

test('nobody has to be waited for', () => {
  for (const way of ['stop', 'drain'] as const) {
    const { log, shutdown } = newShutdown()
    shutdown[way]()
    assert.equal(log.at(-1), 'empty')
  }
})

test('a worker that goes on may be empty', () => {
  const { log, shutdown } = newShutdown()
  shutdown.onGone()
  assert.deepEqual(log, [])
})
