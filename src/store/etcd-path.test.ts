import assert from 'node:assert/strict'
import type { LookupAddress } from 'node:dns'
import { createServer } from 'node:net'
import { describe, it } from 'node:test'
import { FakeTime, settle } from '../../test/support/fake-time.ts'
import { freePorts } from '../../test/support/ports.ts'
import { realWorld } from '../../test/support/stores.ts'
import { seededRandom } from '../runtime/random.ts'
import { EtcdPath } from './etcd-path.ts'

const always = new AbortController().signal

describe('the network to a member', () => {
  /** A path that is there from `backMs` on, and at what times it was knocked at. */
  function pathBackAt(backMs: number, spreadMs = 0): { path: EtcdPath; time: FakeTime; knocks: number[] } {
    const time = new FakeTime()
    const knocks: number[] = []
    const knock = (_target: string, limitMs: number): Promise<boolean> => {
      knocks.push(time.nowMs())
      const isThere = time.nowMs() >= backMs
      return new Promise(resolve => time.after(isThere ? 1 : limitMs, () => resolve(isThere)))
    }
    const world = { clock: time, timers: time, random: seededRandom(1), spreadMs: () => spreadMs, knock }
    return { path: new EtcdPath('etcd:2379', world), time, knocks }
  }

  it('is found to be back soon after it is', async () => {
    const { path, time } = pathBackAt(10_000)
    let backMs = 0
    void path.isBack(always).then(isBack => {
      if (isBack) backMs = time.nowMs()
    })
    await time.pass(9_999)
    assert.ok(path.isLost)
    await time.pass(2_000)
    assert.ok(backMs >= 10_000 && backMs < 10_400, `${backMs}`)
    assert.ok(!path.isLost)
  })

  it('was there all the time where the first knock gets through: a slow member is left alone', async () => {
    const { path, time, knocks } = pathBackAt(0)
    const search = path.isBack(always)
    await time.pass(10)
    assert.equal(await search, false)
    assert.equal(await path.isBack(always), false)
    assert.equal(knocks.length, 1)
    await time.pass(1_000)
    void path.isBack(always)
    assert.equal(knocks.length, 2)
  })

  it('is knocked at by one search at a time, and rarely in a large fleet', async () => {
    const { path, time, knocks } = pathBackAt(Number.POSITIVE_INFINITY, 5_000)
    void path.isBack(always)
    assert.equal(await path.isBack(always), false)
    await time.pass(100_000)
    assert.ok(knocks.length > 10 && knocks.length < 30, `${knocks.length}`)
  })

  it('is not looked for any longer when something has come over it', async () => {
    const { path, time } = pathBackAt(1_000)
    const search = new AbortController()
    const found = path.isBack(search.signal)
    await time.pass(500)
    path.heard()
    search.abort()
    await settle()
    await time.pass(1_000)
    assert.equal(await found, false)
    assert.ok(!path.isLost)
  })

  it('is still to be connected to anew when the search for it ended before it was found', async () => {
    const { path, time, knocks } = pathBackAt(1_000)
    const search = new AbortController()
    const found = path.isBack(search.signal)
    while (!knocks.some(atMs => atMs >= 1_000)) await time.pass(0.5)
    search.abort()
    await time.pass(10)
    assert.equal(await found, false)
    assert.ok(path.isLost)
    const again = path.isBack(always)
    await time.pass(10)
    assert.equal(await again, true)
  })

  /** A path that takes `tripMs()` for a knock, of which some are lost. */
  function farPath(
    tripMs: () => number,
    isLost: (nth: number, nowMs: number) => boolean,
  ): { path: EtcdPath; time: FakeTime } {
    const time = new FakeTime()
    let nth = 0
    const knock = (_target: string, limitMs: number): Promise<boolean> => {
      const takesMs = isLost(nth++, time.nowMs()) ? Number.POSITIVE_INFINITY : tripMs()
      return new Promise(resolve => {
        time.after(Math.min(limitMs, takesMs), () => resolve(takesMs <= limitMs))
      })
    }
    const world = { clock: time, timers: time, random: seededRandom(1), spreadMs: () => 0, knock }
    return { path: new EtcdPath('etcd:2379', world), time }
  }

  for (const tripMs of [100, 280, 300, 320, 450, 600, 880, 900, 920, 2_000]) {
    it(`was not away where every knock takes about ${tripMs} ms`, async () => {
      const random = seededRandom(tripMs)
      const { path, time } = farPath(
        () => tripMs + (random.next() * 2 - 1) * 15,
        () => false,
      )
      for (let turn = 0; turn < 100; turn++) {
        const search = new AbortController()
        const found = path.isBack(search.signal)
        await time.pass(3_000)
        search.abort()
        await settle()
        assert.equal(await found, false)
      }
    })
  }

  it('was not away when one knock is lost', async () => {
    const { path, time } = farPath(
      () => 20,
      nth => nth === 0,
    )
    const found = path.isBack(always)
    await time.pass(2_000)
    assert.equal(await found, false)
  })

  for (const tripMs of [1, 100, 300, 400]) {
    it(`is found to be back soon after it is where it takes ${tripMs} ms`, async () => {
      const { path, time } = farPath(
        () => tripMs,
        (_nth, nowMs) => nowMs < 5_000,
      )
      let backMs = 0
      void path.isBack(always).then(isBack => {
        if (isBack) backMs = time.nowMs()
      })
      await time.pass(10_000)
      assert.ok(backMs >= 5_000 && backMs < 5_400 + tripMs, `${backMs}`)
    })
  }

  it('is knocked at by the address that was found last: one lookup at a time, and none is waited for twice', async () => {
    const [port = 0] = await freePorts(1)
    let lookups = 0
    const resolve = (): Promise<LookupAddress[]> =>
      ++lookups === 1
        ? Promise.resolve([{ address: '127.0.0.1', family: 4 }])
        : new Promise(() => {
            // Whoever answers names is away.
          })
    const time = new FakeTime()
    const world = { ...realWorld, clock: time, spreadMs: () => 0, resolve }
    const path = new EtcdPath(`etcd.invalid:${port}`, world)
    for (let turn = 0; turn < 5; turn++) {
      assert.equal(await path.isBack(always), false)
      await time.pass(2_000)
    }
    assert.equal(lookups, 2)
  })

  it('is not knocked at before its name was looked up', async () => {
    let lookups = 0
    const resolve = (): Promise<LookupAddress[]> => {
      lookups++
      return new Promise(() => undefined)
    }
    const time = new FakeTime()
    const world = { clock: time, timers: time, random: seededRandom(1), spreadMs: () => 0, resolve }
    const path = new EtcdPath('etcd.invalid:2379', world)
    for (let turn = 0; turn < 3; turn++) {
      const search = new AbortController()
      const found = path.isBack(search.signal)
      await time.pass(5_000)
      search.abort()
      assert.equal(await found, false)
    }
    assert.deepEqual([lookups, path.isLost], [1, false])
  })

  it('is there when a connection is taken, and when it is refused', async () => {
    const [port = 0] = await freePorts(1)
    const world = { ...realWorld, spreadMs: () => 0 }
    assert.equal(await new EtcdPath(`127.0.0.1:${port}`, world).isBack(always), false)
    const server = createServer(socket => socket.destroy()).listen(port, '::1')
    try {
      assert.equal(await new EtcdPath(`[::1]:${port}`, world).isBack(always), false)
    } finally {
      server.close()
    }
  })
})
