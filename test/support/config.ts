import assert from 'node:assert/strict'
import type { FileContent } from '../../src/config/files.ts'
import { type LoadInput, type LoadResult, loadConfig } from '../../src/config/load.ts'
import { formatProblem } from '../../src/config/problem.ts'
import type { Config } from '../../src/config/schema.ts'

type More = Partial<LoadInput> & { files?: Readonly<Record<string, string | FileContent>> }

/** Loads `text` as `/etc/p.yaml`, over files that exist only here. */
export function load(text: string, more: More = {}): LoadResult {
  const { files = {}, ...input } = more
  const readFile = (path: string): FileContent => {
    const found = files[path]
    if (found === undefined) throw Object.assign(new Error(path), { code: 'ENOENT' })
    return typeof found === 'string' ? { text: found, mode: 0o600 } : found
  }
  return loadConfig({ text, file: '/etc/p.yaml', env: {}, hostName: 'box.example', readFile, ...input })
}

/** The configuration, which must be right. */
export function loaded(text: string, more: More = {}): Config {
  const result = load(text, more)
  assert.ok(result.ok, result.ok ? '' : result.problems.map(formatProblem).join('\n'))
  return result.config
}

/** Every problem on a line of its own, with its hint in parentheses. */
export function problems(text: string, more: More = {}): string[] {
  const result = load(text, more)
  assert.ok(!result.ok, 'the configuration was taken for right')
  return result.problems.map(
    problem => `${formatProblem(problem)}${problem.hint ? ` (${problem.hint})` : ''}`,
  )
}
