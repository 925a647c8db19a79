/**
 * What it costs to know a statement's class: on a hit (every statement), on a parse (once a fingerprint), in memory.
 *   npm run build && node --expose-gc dist/bench/fingerprint.js
 */
import { PerformanceObserver, performance } from 'node:perf_hooks'
import { systemClock } from '../src/runtime/clock.ts'
import { Fingerprinter } from '../src/sql/fingerprint.ts'
import { classify } from '../src/sql/statement-class.ts'
import { loadParser, StatementClasses } from '../src/sql/statement-classes.ts'

const rounds = 7
const roundMs = 200

const columns = ['id', 'email', 'name', 'created_at', 'updated_at', 'tenant_id', 'is_admin', 'settings']
const texts = {
  'pgbench select': 'SELECT abalance FROM pgbench_accounts WHERE aid = 123;',
  'prepared select': 'SELECT abalance FROM pgbench_accounts WHERE aid = $1',
  'ORM select': `SELECT ${columns.map(name => `"User"."${name}" AS "User_${name}"`).join(', ')} FROM "public"."users" "User" LEFT JOIN "public"."orders" "Order" ON "Order"."user_id" = "User"."id" WHERE "User"."tenant_id" = $1 AND lower("User"."email") = $2 ORDER BY "User"."created_at" DESC LIMIT 50`,
  'long list': `SELECT * FROM t WHERE id IN (${Array.from({ length: 500 }, (_, index) => index).join(', ')})`,
}

let collections = 0
const observer = new PerformanceObserver(list => {
  collections += list.getEntries().length
})
observer.observe({ entryTypes: ['gc'] })

const residentMegabytes = (): number => {
  globalThis.gc?.()
  return process.memoryUsage().rss / 1024 / 1024
}

const withoutParser = residentMegabytes()
const loadedFrom = performance.now()
const classes = new StatementClasses(systemClock, { parseMsPerSecond: 1e6 })
await classes.load()
console.log(
  `the parser: ${(performance.now() - loadedFrom).toFixed(0)} ms, ${(residentMegabytes() - withoutParser).toFixed(0)} MB`,
)

const parse = await loadParser()
const fingerprinter = new Fingerprinter()
console.log('    print       hit     parse   (* where garbage was collected)')
for (const [name, sql] of Object.entries(texts)) {
  const bytes = Buffer.from(sql)
  const print = await measure(() => fingerprinter.read(bytes, 0, bytes.length, true))
  const hit = await measure(() => classes.of(bytes, 0, bytes.length, true))
  const printed = Buffer.from(fingerprinter.bytes.subarray(0, fingerprinter.length))
  const parsed = await measure(() => classify(printed, parse))
  console.log(`${show(print)}${show(hit)}${show(parsed)}  ${name} (${bytes.length} bytes)`)
}
console.log(`the parser, used: ${(residentMegabytes() - withoutParser).toFixed(0)} MB`)
observer.disconnect()

interface Measured {
  nanoseconds: number
  collections: number
}

function show({ nanoseconds, collections: count }: Measured): string {
  const each = nanoseconds < 10_000 ? `${nanoseconds.toFixed(0)} ns` : `${(nanoseconds / 1000).toFixed(0)} µs`
  return `${each.padStart(9)}${count === 0 ? ' ' : '*'}`
}

/** Of one call, in the best of some rounds; how often garbage was collected in the last ones. */
async function measure(call: () => unknown): Promise<Measured> {
  let best = Infinity
  for (let round = 0; round < rounds; round++) {
    if (round === 2) {
      await settled()
      collections = 0
    }
    let calls = 0
    const start = performance.now()
    let end = start
    while (end - start < roundMs) {
      for (let index = 0; index < 100; index++) call()
      calls += 100
      end = performance.now()
    }
    best = Math.min(best, ((end - start) * 1e6) / calls)
  }
  await settled()
  return { nanoseconds: best, collections }
}

/** Until the observer has been told. */
async function settled(): Promise<void> {
  await new Promise(resolve => setImmediate(resolve))
  await new Promise(resolve => setImmediate(resolve))
}
