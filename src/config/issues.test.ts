import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { load, problems } from '../../test/support/config.ts'
import { fields, sections } from './keys.ts'

test('any single misspelling of a known key is suggested', () => {
  const letters = fc.stringMatching(/^[a-z_0]$/)
  const edit = fc.constantFrom('insert', 'remove', 'replace', 'swap')
  const key = fc.constantFrom(...fields.filter(({ pattern }) => !pattern.includes('[]')))
  fc.assert(
    fc.property(key, edit, fc.nat(40), letters, ({ name, section }, edit, at, letter) => {
      const index = at % name.length
      const rest = name.slice(index + 1)
      const before = name.slice(0, index)
      const misspelt = {
        insert: before + letter + name.slice(index),
        remove: before + rest,
        replace: before + letter + rest,
        swap: before + rest.slice(0, 1) + name[index] + rest.slice(1),
      }[edit]
      const siblings = sections.find(({ pattern }) => pattern === section)?.keys ?? []
      fc.pre(misspelt !== '' && !siblings.includes(misspelt))
      const nested = section
        .split('.')
        .reverse()
        .reduce<unknown>((value, name) => (name === '' ? value : { [name]: value }), { [misspelt]: 'x' })
      const found = problems(JSON.stringify(nested)).find(line => line.includes('is not a known key'))
      assert.ok(found?.includes(`\`${name}\``), `${misspelt}: ${found}`)
    }),
    { numRuns: 1000 },
  )
})

test('the keys of which an unknown one is a part are suggested before those that only look alike', () => {
  assert.match(problems('proxy: {idle_timeout: 1}').join(), /did you mean `client_idle_timeout` or `server_i/)
})

test('a name that another program has for a key is told before those that look alike', () => {
  assert.match(problems('proxy: {pool_size: 1}').join(), /did you mean `proxy.default_pool_size`\?/)
})

describe('secrets', () => {
  const canary = 'hunter2canary'
  const secretFields = fields.filter(({ meta }) => meta.secret)

  test('no problem ever repeats one', () => {
    const ways = [
      (name: string) => `${name}: *${canary}`,
      (name: string) => `${name}: &${canary}`,
      (name: string) => `${name}: !${canary}`,
      (name: string) => `${name}: "${canary}`,
      (name: string) => `${name}: @${canary}`,
      (name: string) => `${name}: ${canary}: ${canary}`,
      (name: string) => `${name}: [${canary}]`,
      (name: string) => `${name}: {${canary}: 1}`,
      (name: string) => `${name}: "\\q${canary}"`,
      (name: string) => `{${name}:${canary}}`,
      (name: string) => `"${name}:${canary}": 1`,
      (name: string) => `${name}: ${canary}\n${name}: ${canary}`,
      (name: string) => `${name}:${canary}`,
      (name: string) => `${name}: ${canary.repeat(500)}`,
    ]
    for (const { section, name } of secretFields) {
      const [outer = '', inner] = section.split('.')
      for (const way of ways) {
        const indent = inner === undefined ? '  ' : '    '
        const body = way(name).replace(/^/gm, indent)
        const result = load(`${outer}:\n${inner === undefined ? '' : `  ${inner}:\n`}${body}\n`)
        assert.ok(!result.ok, body)
        assert.ok(!JSON.stringify(result).includes(canary), JSON.stringify(result))
      }
    }
  })

  test('nor when it stands in a variable or a flag', () => {
    for (const { pattern, meta } of secretFields) {
      const value = canary.repeat(500)
      for (const more of [
        { env: { [meta.env!]: value } },
        { overrides: { [pattern]: { value, flag: '--secret' } } },
      ]) {
        const result = load('', more)
        assert.ok(!result.ok)
        assert.ok(!JSON.stringify(result).includes(canary))
      }
    }
  })
})
