import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isWorldReadable, readFailure, readFileFromDisk } from './files.ts'
import { loadConfigFile } from './load.ts'
import { formatProblem } from './problem.ts'

const folder = mkdtempSync(join(tmpdir(), 'pgherd-config-'))
after(() => rmSync(folder, { recursive: true }))

function write(name: string, text: string, mode: number): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  chmodSync(path, mode)
  return path
}

test('a configuration and the file of a secret beside it are read from the disk', () => {
  const file = write('a.yaml', 'probe: {password_file: pw}\n', 0o644)
  write('pw', 'geheim\n', 0o604)
  const result = loadConfigFile(file, { env: {} })
  assert.ok(result.ok)
  assert.equal(result.config.probe.password, 'geheim')
  assert.notEqual(result.config.proxy.id, '')
  assert.deepEqual(result.warnings.map(formatProblem), [
    `${file}:1:24: \`probe.password_file\` names \`${join(folder, 'pw')}\`, which every user of this machine can read`,
  ])
})

test('a file that is missing or a folder is one problem', () => {
  for (const [path, failure] of [
    [join(folder, 'no.yaml'), 'does not exist'],
    [folder, 'is a folder'],
  ] as const) {
    const result = loadConfigFile(path, { env: {} })
    assert.ok(!result.ok)
    assert.deepEqual(result.problems.map(formatProblem), [`${path}: the file ${failure}`])
  }
})

test('permissions are told apart', () => {
  assert.equal(readFileFromDisk(write('m', 'x', 0o640)).mode, 0o640)
  assert.equal(isWorldReadable(0o640), false)
  assert.equal(isWorldReadable(0o604), true)
})

test('unknown failures are named by their code', () => {
  assert.equal(readFailure(Object.assign(new Error('x'), { code: 'EIO' })), 'cannot be read (EIO)')
  assert.equal(readFailure('x'), 'cannot be read (unknown error)')
})
