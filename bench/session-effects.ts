/**
 * How long the look through one text takes, which the proxy does for every Query and Parse.
 *   npm run build && node dist/bench/session-effects.js
 */
import { performance } from 'node:perf_hooks'
import { sessionEffects } from '../src/sql/session-effects.ts'
import { buildSessionFacts } from '../src/sql/session-facts.ts'

const rounds = 7
const roundMs = 200

const columns = ['id', 'email', 'name', 'created_at', 'updated_at', 'tenant_id', 'is_admin', 'settings']
const texts = {
  'pgbench select': 'SELECT abalance FROM pgbench_accounts WHERE aid = 12345;',
  'pgbench update': 'UPDATE pgbench_tellers SET tbalance = tbalance + -4711 WHERE tid = 7;',
  begin: 'BEGIN;',
  'ORM select': `SELECT ${columns.map(name => `"User"."${name}" AS "User_${name}"`).join(', ')} FROM "public"."users" "User" LEFT JOIN "public"."orders" "Order" ON "Order"."user_id" = "User"."id" WHERE "User"."tenant_id" = $1 AND lower("User"."email") = $2 ORDER BY "User"."created_at" DESC LIMIT 50`,
  'COPY-like insert': `INSERT INTO t (a, b, c) VALUES ${Array.from({ length: 1000 }, (_, i) => `(${i}, 'text ${i}', now())`).join(', ')}`,
}

const builtins = Array.from({ length: 2000 }, (_, index) => ['builtin', `some_function_${index}`])
const facts = buildSessionFacts([...builtins, ['builtin', 'lower'], ['builtin', 'now']])

for (const [name, sql] of Object.entries(texts)) {
  const bytes = Buffer.from(sql)
  const nanoseconds = measure(() => sessionEffects(bytes, 0, bytes.length, facts))
  const each = (nanoseconds / 1000).toFixed(2).padStart(8)
  console.log(
    `${each} µs  ${(nanoseconds / bytes.length).toFixed(1).padStart(5)} ns/byte  ${name} (${bytes.length} bytes)`,
  )
}

/** Of one call, in the best of some rounds. */
function measure(call: () => unknown): number {
  let best = Infinity
  for (let round = 0; round < rounds; round++) {
    let calls = 0
    const start = performance.now()
    let end = start
    while (end - start < roundMs) {
      for (let i = 0; i < 100; i++) call()
      calls += 100
      end = performance.now()
    }
    best = Math.min(best, ((end - start) * 1e6) / calls)
  }
  return best
}
