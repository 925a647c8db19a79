import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Results } from '../../bench/results.ts'
import { baseEnvironment, runCommand } from '../../src/runtime/process.ts'
import { need } from '../support/need.ts'

const main = fileURLToPath(new URL('../../bench/main.js', import.meta.url))
const out = await mkdtemp(join(tmpdir(), 'pgherd-bench-test-'))
after(() => rm(out, { recursive: true, force: true }))

test('the bench measures PostgreSQL and pgherd and writes what it found', need('pgbench'), async () => {
  const args = ['--workload', 'select-simple', '--clients', '2', '--peers', 'none', '--scale', '1']
  const length = ['--quick', '--rounds', '1', '--seconds', '1', '--out', out]
  const { PGHERD_POSTGRES_BIN } = process.env
  const env = { ...baseEnvironment(), ...(PGHERD_POSTGRES_BIN && { PGHERD_POSTGRES_BIN }) }
  const result = await runCommand(
    { command: process.execPath, args: [main, ...args, ...length], env },
    60_000,
  )
  assert.equal(result.code, 0, result.tail.join('\n'))
  const results = JSON.parse(await readFile(join(out, 'results.json'), 'utf8')) as Results
  assert.deepEqual(
    results.cells.map(({ contestant, samples }) => [contestant, samples.length]),
    [
      ['direct', 1],
      ['pgherd', 1],
    ],
  )
  const [direct, pgherd] = results.cells.map(({ samples }) => samples[0]!)
  assert.ok(direct!.tps! > 100 && direct!.p99Ms! >= direct!.p50Ms! && direct!.proxyCpuUs === undefined)
  assert.ok(pgherd!.tps! > 100 && pgherd!.proxyCpuUs! > 0 && pgherd!.totalCpuUs! > pgherd!.proxyCpuUs!)
  assert.ok(pgherd!.memoryMb! > 20)
  assert.match(await readFile(join(out, 'results.md'), 'utf8'), /^\| 2 \| pgherd \/ direct \| \d/m)
  assert.match(await readFile(join(out, 'select-simple.svg'), 'utf8'), /<title>pgherd: /)
})
