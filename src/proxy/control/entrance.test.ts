import assert from 'node:assert/strict'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { freePorts } from '../../../test/support/ports.ts'
import { until } from '../../../test/support/wait.ts'
import { handleOf } from '../../runtime/listeners.ts'
import { type Logger, silentLogger } from '../../runtime/log.ts'
import { unlimited } from './doors.ts'
import {
  type Arrival,
  ceilingsOf,
  chooseTaker,
  Entrance,
  type EntranceOptions,
  type Loan,
  type Taker,
} from './entrance.ts'

class FakeTaker implements Taker {
  clients = 0
  readonly arrivals: Arrival[] = []
  readonly loans: Loan[] = []
  ceiling = unlimited
  quietForMs = 0
  owedSinceMs: number | undefined

  constructor(clients = 0, owedSinceMs?: number) {
    this.clients = clients
    this.owedSinceMs = owedSinceMs
  }

  get load(): number {
    return this.clients + this.arrivals.length
  }

  most = Number.MAX_SAFE_INTEGER

  get owed(): number {
    return this.arrivals.length
  }

  silentMs(): number {
    return this.quietForMs
  }

  give(arrival: Arrival): void {
    this.arrivals.push(arrival)
  }

  lend(loan: Loan): void {
    this.loans.push(loan)
  }

  limit(connections: number): void {
    this.ceiling = connections
  }

  confirm(): void {
    this.clients += this.arrivals.splice(0).length
  }
}

const arrival = (ended: Socket[] = []): Arrival => {
  const socket = { destroy: () => ended.push(socket) } as unknown as Socket
  return { socket, route: 'primary' }
}

const waitingMax = 1024

function entranceFor(takers: Taker[], more: Partial<EntranceOptions> = {}): Entrance {
  const time = new FakeTime()
  return new Entrance({
    clock: time,
    timers: time,
    log: silentLogger,
    takers: () => takers,
    waitingMax: () => waitingMax,
    refuse: socket => socket.destroy(),
    ...more,
  })
}

test('clients are spread evenly, however they come and whoever is slow to confirm', () => {
  const steps = fc.array(fc.record({ come: fc.nat(9), confirms: fc.nat(4) }))
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 5 }), (rounds, count) => {
      const takers = Array.from({ length: count }, () => new FakeTaker())
      const entrance = entranceFor(takers)
      for (const { come, confirms } of rounds) {
        for (let each = 0; each < come; each++) entrance.admit(arrival())
        takers[confirms % count]!.confirm()
      }
      const loads = takers.map(taker => taker.load)
      assert.ok(Math.max(...loads) - Math.min(...loads) <= 1, loads.join('/'))
    }),
  )
})

test('who has fewer gets more until they are equal', () => {
  const [old, fresh] = [new FakeTaker(5), new FakeTaker(0)]
  const entrance = entranceFor([old, fresh])
  for (let each = 0; each < 9; each++) entrance.admit(arrival())
  assert.deepEqual([old.load, fresh.load], [7, 7])
})

test('equals take turns', () => {
  const takers = [new FakeTaker(), new FakeTaker(), new FakeTaker()]
  assert.deepEqual(
    [0, 1, 2, 3].map(turn => takers.indexOf(chooseTaker(takers, turn, 0) as FakeTaker)),
    [0, 1, 2, 0],
  )
  const [first, second] = takers as [FakeTaker, FakeTaker]
  const entrance = entranceFor([first, second])
  entrance.admit(arrival())
  const got = [first, second].find(taker => taker.owed === 1)
  got!.arrivals.pop()
  entrance.admit(arrival())
  assert.equal(got!.owed, 0)
})

test('who is late with its confirmation gets nothing while another is not', () => {
  const [late, busy] = [new FakeTaker(0, 0), new FakeTaker(50, 950)]
  assert.equal(chooseTaker([late, busy], 0, 1000), busy)
  assert.equal(chooseTaker([late, busy], 1, 1000), busy)
  assert.equal(chooseTaker([late], 0, 1000), late)
  assert.equal(chooseTaker([], 0, 1000), undefined)
})

test('who has no room gets nothing while another has some', () => {
  const [full, other] = [new FakeTaker(3), new FakeTaker(4)]
  full.most = 3
  assert.equal(chooseTaker([full, other], 0, 1000), other)
  other.most = 4
  assert.equal(chooseTaker([full, other], 0, 1000), full)
})

test('who cannot be handed over waits for somebody who can take it, in order and not without bound', () => {
  const takers: FakeTaker[] = []
  const ended: Socket[] = []
  const entrance = entranceFor(takers)
  const arrivals = Array.from({ length: 1100 }, () => arrival(ended))
  for (const each of arrivals) entrance.admit(each)
  assert.equal(ended.length, 1100 - 1024)
  const taker = new FakeTaker()
  takers.push(taker)
  entrance.resume()
  assert.equal(taker.owed, 256, 'no more than so many on their way to one')
  for (let round = 0; round < 5; round++) {
    taker.confirm()
    entrance.resume()
  }
  assert.equal(taker.clients, 1024)
  takers.pop()
  entrance.admit(arrival(ended))
  entrance.close()
  assert.equal(ended.length, 1100 - 1024 + 1)
})

test('nothing is read of a connection here, and a port that is taken is told', async () => {
  const [port] = await freePorts(1)
  const taker = new FakeTaker()
  const entrance = entranceFor([taker])
  await entrance.listen({ host: '127.0.0.1', port: port! }, 'replica')
  await assert.rejects(entranceFor([]).listen({ host: '127.0.0.1', port: port! }, 'primary'), {
    code: 'EADDRINUSE',
  })
  const client = connect(port!, '127.0.0.1')
  client.write('first bytes')
  const { socket, route } = await until('it is handed over', () => taker.arrivals[0])
  assert.equal(route, 'replica')
  assert.equal(socket.bytesRead, 0)
  client.destroy()
  socket.destroy()
  entrance.close()
})

test('of refusals is told at most once a second, with how many there were', async () => {
  const time = new FakeTime()
  const told: unknown[] = []
  const log = { error: (fields: { refused: number }) => told.push(fields.refused) } as unknown as Logger
  const ended: Socket[] = []
  const takers: FakeTaker[] = []
  const entrance = entranceFor(takers, { clock: time, log, waitingMax: () => 2 })
  const come = (count: number): void => {
    for (let each = 0; each < count; each++) entrance.admit(arrival(ended))
  }
  come(2 + 30)
  const taker = new FakeTaker()
  takers.push(taker)
  entrance.resume()
  takers.pop()
  come(2 + 10)
  assert.deepEqual(told, [1], 'one that was handed over in between makes no difference')
  await time.pass(1000)
  come(5)
  assert.deepEqual(told, [1, 40])
  assert.equal(ended.length, 45)
})

test('nobody may have many more connections than the one with the fewest of the others', () => {
  const clients = fc.array(fc.nat(200), { minLength: 2, maxLength: 6 })
  fc.assert(
    fc.property(clients, loads => {
      const takers = loads.map(load => new FakeTaker(load))
      const ceilings = ceilingsOf(takers)
      for (const [at, ceiling] of ceilings.entries()) {
        const fewest = Math.min(...loads.filter((_, other) => other !== at))
        assert.ok(
          ceiling > fewest && ceiling <= fewest * 1.0625 + 1,
          `${loads.join('/')}: ${ceilings.join('/')}`,
        )
      }
      assert.ok(
        ceilings.some((ceiling, at) => loads[at]! < ceiling),
        'somebody accepts',
      )
    }),
  )
})

test('who accepts for itself as long as its ceiling says, and leaves the rest, has no more than the others', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3), { minLength: 64, maxLength: 64 }), awake => {
      const takers = Array.from({ length: 4 }, () => new FakeTaker())
      const entrance = entranceFor(takers)
      for (const first of awake) {
        for (const [at, ceiling] of ceilingsOf(takers).entries()) takers[at]!.limit(ceiling)
        const taker = takers[first]!
        if (taker.load < taker.ceiling) taker.clients++
        else entrance.admit(arrival())
      }
      const loads = takers.map(({ load }) => load)
      assert.ok(Math.max(...loads) - Math.min(...loads) <= 2, loads.join('/'))
    }),
  )
})

test('who is alone accepts everything', () => {
  assert.deepEqual(ceilingsOf([new FakeTaker(7)]), [unlimited])
})

/** A worker as far as the ports are concerned: it accepts from what it is lent, and gives a copy back. */
class AcceptingTaker extends FakeTaker {
  readonly servers: Server[] = []
  accepted = 0

  /** In one process a copy cannot be made: another socket on another port stands for it. */
  async accept(entrance: Entrance): Promise<Server> {
    const { door } = this.loans.at(-1)!
    const copy = createServer(socket => {
      this.accepted++
      socket.destroy()
    })
    await new Promise<void>(resolve => copy.listen(0, '127.0.0.1', resolve))
    this.servers.push(copy)
    entrance.onLent(this, door, handleOf(copy))
    return copy
  }
}

const refused = (port: number): Promise<boolean> =>
  new Promise(resolve => {
    const client = connect(port, '127.0.0.1')
    client.on('connect', () => {
      client.destroy()
      resolve(false)
    })
    client.on('error', () => resolve(true))
  })

test('the ports are lent to every worker, and accepted from here only until one has taken them', async () => {
  const [port] = await freePorts(1)
  const takers = [new AcceptingTaker()]
  const entrance = entranceFor(takers)
  await entrance.listen({ host: '127.0.0.1', port: port! }, 'primary')
  const [first] = takers as [AcceptingTaker]
  assert.deepEqual(
    first.loans.map(({ door, route }) => ({ door, route })),
    [{ door: 0, route: 'primary' }],
  )
  assert.equal(await refused(port!), false)
  await until('it is handed over', () => first.arrivals.length === 1)
  const copy = await first.accept(entrance)
  assert.equal(await refused(port!), true, 'here nobody accepts any more')
  assert.deepEqual(entrance.places, [{ route: 'primary', host: '127.0.0.1', port }])
  const second = new AcceptingTaker()
  takers.push(second)
  entrance.resume()
  assert.equal(second.loans.length, 1)
  assert.equal(second.loans[0]!.handle, handleOf(copy), 'the copy is lent further')
  assert.ok(second.ceiling < unlimited, 'and it knew its ceiling before')
  for (const { socket } of first.arrivals) socket.destroy()
  entrance.close()
})

test('while no worker is heard of, connections are accepted here and wait', async () => {
  const [port] = await freePorts(1)
  const takers = [new AcceptingTaker()]
  const [taker] = takers as [AcceptingTaker]
  const entrance = entranceFor(takers)
  await entrance.listen({ host: '127.0.0.1', port: port! }, 'primary')
  const copy = await taker.accept(entrance)
  const { port: copied } = copy.address() as { port: number }
  entrance.stepIn()
  assert.equal(taker.loans.length, 1, 'it is heard of')
  takers.pop()
  entrance.stepIn()
  // The handle is that of the copy's listener, which no longer gets what comes.
  assert.equal(await refused(copied), false)
  takers.push(taker)
  entrance.resume()
  await until('it gets who has waited', () => taker.arrivals.length === 1)
  assert.equal(taker.loans.length, 2, 'and the port again')
  for (const { socket } of taker.arrivals) socket.destroy()
  entrance.close()
})
