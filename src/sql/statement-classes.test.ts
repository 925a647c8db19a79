import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeTime } from '../../test/support/fake-time.ts'
import { Fingerprinter } from './fingerprint.ts'
import { type ClassLimits, type StatementClass, StatementClasses } from './statement-classes.ts'

async function loaded(limits?: Partial<ClassLimits>): Promise<{
  classes: StatementClasses
  time: FakeTime
  of: (sql: string, standardStrings?: boolean) => StatementClass | undefined
}> {
  const time = new FakeTime()
  const classes = new StatementClasses(time, limits)
  await classes.load()
  return { classes, time, of: (sql, standardStrings) => ofIn(classes, sql, standardStrings) }
}

function ofIn(classes: StatementClasses, sql: string, standardStrings = true): StatementClass | undefined {
  const bytes = Buffer.from(sql)
  return classes.of(bytes, 0, bytes.length, standardStrings)
}

test('nothing is known before the parser is there', async () => {
  const classes = new StatementClasses(new FakeTime())
  assert.equal(ofIn(classes, 'SELECT 1'), undefined)
  assert.equal(ofIn(classes, 'SELECT 1'), undefined)
  const loading = classes.load()
  assert.equal(classes.isLoaded, false)
  assert.equal(classes.load(), loading)
  await loading
  assert.equal(classes.isLoaded, true)
  assert.equal(ofIn(classes, 'SELECT 1'), undefined, 'seen for the first time')
  assert.equal(ofIn(classes, 'SELECT 1')?.refusal, undefined)
})

test('what was seen twice has one class, whatever its constants', async () => {
  const { of, classes } = await loaded()
  assert.equal(of('SELECT a FROM t WHERE b = 1'), undefined)
  const found = of("select a from t where b = 'x'")
  assert.equal(found, undefined, 'another kind of constant')
  const known = of('select a from t where b = 2;')
  assert.ok(known)
  assert.equal(of('SELECT a FROM t /* x */ WHERE b = 3.5'), known)
  assert.equal(classes.size, 1)
})

test('what cannot be parsed is remembered, what is long is said at once', async () => {
  const { of, classes } = await loaded()
  of('SELECT FROM WHERE')
  const known = of('SELECT FROM WHERE')
  assert.equal(known?.refusal, 'unreadable')
  assert.equal(of('SELECT FROM WHERE'), known)
  assert.equal(of(`SELECT ${'x'.repeat(20_000)}`)?.refusal, 'too_long')
  assert.equal(of("SELECT 'x")?.refusal, 'unreadable')
  assert.equal(classes.size, 1)
})

test('strings are read as the session reads them', async () => {
  const { of } = await loaded()
  const sql = "SELECT '\\', f() --'"
  of(sql)
  of(sql, false)
  assert.deepEqual(of(sql)?.dependencies.functions, ['f'])
  assert.deepEqual(of(sql, false)?.dependencies.functions, [])
})

test('a flood of new statements costs no more parses than the limit says', async () => {
  const { of, classes, time } = await loaded({ parseMsPerSecond: 1 })
  const flood = (from: number): number => {
    let parsed = 0
    for (let index = from; index < from + 1000; index++) {
      const sql = `SELECT column_${index}`
      of(sql)
      if (of(sql)) parsed++
    }
    return parsed
  }
  const burst = flood(10_000)
  assert.ok(burst > 40 && burst <= 4 / 0.065 + 1, String(burst))
  assert.equal(flood(20_000), 0)
  assert.ok(of('SELECT column_10000'), 'what is known stays known')
  await time.pass(1000)
  const more = flood(30_000)
  assert.ok(more > 5 && more < burst / 2, String(more))
  assert.equal(classes.size, burst + more)
})

test('what is used stays, what is not is forgotten: by count and by bytes', async () => {
  for (const limits of [{ countMax: 100 }, { bytesMax: 65_000 }]) {
    const { of, classes } = await loaded({ ...limits, parseMsPerSecond: 1e6 })
    of('SELECT used')
    const used = of('SELECT used')
    assert.ok(used)
    of('SELECT unused')
    const unused = of('SELECT unused')
    for (let index = 0; index < 1000; index++) {
      of(`SELECT column_${index}`)
      of(`SELECT column_${index}`)
      assert.equal(of('SELECT used'), used)
      assert.ok(classes.size <= 110, String(classes.size))
    }
    assert.notEqual(of('SELECT unused'), unused)
  }
})

test('statements of one hash are told apart by their bytes', async () => {
  const [one, other] = ['SELECT fuyk()', 'SELECT f15hi()'] as const
  assert.equal(hashOf(one), hashOf(other))
  const { of } = await loaded()
  of(one)
  assert.deepEqual(of(one)?.dependencies.functions, ['fuyk'])
  assert.deepEqual(of(other)?.dependencies.functions, ['f15hi'])
  assert.deepEqual(of(one)?.dependencies.functions, ['fuyk'])
})

function hashOf(sql: string): number {
  const print = new Fingerprinter()
  const bytes = Buffer.from(sql)
  print.read(bytes, 0, bytes.length, true)
  return print.hash
}
