import assert from 'node:assert/strict'
import type { Intent } from '../../src/topology/intent.ts'

/**
 * Checks that the history of an intent is one row of changes, each of which begins where the one before it has ended,
 * and that it ends in what the intent is now. The history must be whole.
 */
export function assertSerial({ history, nodes, values }: Intent): void {
  const last = new Map<string, unknown>()
  history.forEach(({ change, entry }, index) => {
    assert.equal(change, index + 1)
    const ofNodes = Object.entries(entry.nodes).map(([name, pair]) => [`node ${name}`, pair] as const)
    for (const [key, { before, after }] of [...ofNodes, ...Object.entries(entry.settings)]) {
      assert.deepEqual(before, last.get(key) ?? null, `change ${change} of ${key}`)
      last.set(key, after)
    }
  })
  const left = [...last].filter(([, value]) => value !== null)
  const now = [
    ...Object.entries(values),
    ...[...nodes].map(([name, node]) => [`node ${name}`, node] as const),
  ]
  assert.deepEqual(new Map(left), new Map(now))
}
