import assert from 'node:assert/strict'
import { test } from 'node:test'
import { putSections } from './docs.ts'

const names = ['one', 'two', 'three']
const page = `# Page

<!-- bench: begin -->

### one

old first

### three

old third

<!-- bench: end -->

After.
`

test('sections that were measured are replaced or come in their place, others stay', () => {
  const sections = new Map([
    ['two', '### two\n\nnew second\n'],
    ['three', '### three\n\nnew third\n'],
  ])
  const wanted = page
    .replace('### three', '### two\n\nnew second\n\n### three')
    .replace('old third', 'new third')
  const put = putSections(page, sections, names)
  assert.equal(put, wanted)
  assert.equal(putSections(put, sections, names), put)
})

test('a section of a workload that is gone goes too', () => {
  const put = putSections(page, new Map(), ['three'])
  assert.ok(!put.includes('old first'))
  assert.ok(put.includes('old third'))
})

test('a page without the marks is refused', () => {
  assert.throws(() => putSections('# Page\n', new Map(), names), { code: 'usage' })
})
