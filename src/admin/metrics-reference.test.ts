import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { metricsMarkdown } from './metrics-reference.ts'

test('docs/metrics.md is what the metrics say', async () => {
  const path = new URL('../../../docs/metrics.md', import.meta.url)
  assert.ok(
    readFileSync(path, 'utf8') === (await metricsMarkdown()),
    'it is not up to date: run `npm run docs`',
  )
})
