import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLogger } from './log.ts'

function written(format: 'json' | 'text', write: (log: ReturnType<typeof createLogger>) => void): string {
  let out = ''
  const options = {
    level: 'debug',
    format,
    write: (line: string) => {
      out += line
    },
  } as const
  write(createLogger(options))
  return out
}

test('what others choose stays on the line that it belongs to', () => {
  const name = 'ada\n12:00:00.000 info  login of root\r\x1b[2J\x7f\u0085'
  for (const format of ['json', 'text'] as const) {
    const out = written(format, log => log.info({ user: name }, `login refused for "${name}"`))
    assert.equal(out.split('\n').length, 2)
    assert.doesNotMatch(out.slice(0, -1), format === 'text' ? /\p{Cc}/u : /[\n\r]/)
  }
})

test('fields that are secret by their name are not written', () => {
  const secrets = { password: 'hunter2', user: { token: 'hunter2' }, deep: { er: { secret: 'hunter2' } } }
  for (const format of ['json', 'text'] as const) {
    const out = written(format, log => log.info(secrets, 'a login'))
    assert.match(out, /redacted/)
    assert.doesNotMatch(out, /hunter2/)
  }
})
