import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fleetField } from './fleet-changes.ts'
import { configJsonSchema } from './json-schema.ts'
import { fields, isInElement, sections } from './keys.ts'
import { loadConfig } from './load.ts'
import { referenceMarkdown, sampleYaml } from './reference.ts'

test('docs/configuration.md is what the schema says', () => {
  const path = new URL('../../../docs/configuration.md', import.meta.url)
  assert.ok(readFileSync(path, 'utf8') === referenceMarkdown(), 'it is not up to date: run `npm run docs`')
})

test('every key is described once, and no two share a variable', () => {
  const variables = fields.flatMap(({ meta }) => meta.env ?? [])
  assert.equal(new Set(variables).size, variables.length)
  for (const { pattern, meta } of fields) {
    assert.match(meta.description, /^\S.*\.$/, `${pattern} has no sentence`)
    if (meta.secret) assert.ok(meta.env, `${pattern} is a secret without a variable`)
    if (meta.file === 'secret') assert.match(pattern, /_file$/)
  }
  for (const { pattern, description } of sections.slice(1)) assert.match(description, /^\S.*\.$/, pattern)
})

test('what is marked as a setting of the fleet can be set for it, and nothing else', () => {
  const markdown = referenceMarkdown()
  const sectionOf = (title: string): string => markdown.split(`\n## ${title}\n`)[1]?.split('\n## ')[0] ?? ''
  for (const { name, pattern, section } of fields) {
    const text = sectionOf(section === '' ? 'Top level' : `\`${section.replace('.*', '.<name>')}\``)
    const row = text.split('\n').find(line => line.startsWith(`| \`${name}\` |`))
    assert.ok(row, pattern)
    const isMarked = row.includes(' | live, fleet | ')
    assert.equal(fleetField(pattern.replace('*', 'app')) !== undefined, isMarked, pattern)
  }
})

test('the sample is valid and changes nothing, and has every key', () => {
  const load = (text: string) =>
    loadConfig({ text, file: 'p.yaml', env: {}, hostName: 'box', readFile: () => ({ text: '', mode: 0 }) })
  const sample = load(sampleYaml())
  const empty = load('')
  assert.ok(sample.ok && empty.ok, JSON.stringify(sample))
  assert.deepEqual(sample.config, empty.config)
  for (const { name, section } of fields) {
    if (!isInElement(section)) assert.match(sampleYaml(), new RegExp(`^[ #]*${name}:`, 'm'))
  }
})

test('the JSON Schema describes every key and refuses unknown ones', () => {
  interface Schema {
    type?: string
    description?: string
    properties?: Record<string, Schema>
    items?: Schema
    /** For a mapping of names to sections the section, else false. */
    additionalProperties?: Schema
  }
  const at = (pattern: string): Schema | undefined =>
    pattern.split('.').reduce<Schema | undefined>((schema, part) => {
      if (part === '*') return schema?.additionalProperties
      const child = schema?.properties?.[part.replace('[]', '')]
      return part.endsWith('[]') ? child?.items : child
    }, configJsonSchema() as Schema)
  for (const { pattern, meta } of fields) assert.equal(at(pattern)?.description, meta.description, pattern)
  for (const { pattern } of sections) {
    const schema = pattern === '' ? (configJsonSchema() as Schema) : at(pattern)
    assert.equal(schema?.additionalProperties, false, pattern)
  }
})
