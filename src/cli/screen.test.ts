import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import * as fc from 'fast-check'
import { recordingIo } from '../../test/support/command.ts'
import { painter } from './output.ts'
import { clip, Screen } from './screen.ts'

const paint = painter(true)

test('a line is cut to its width, whatever its colours, and every colour ends', () => {
  assert.equal(clip('abcdef', 6), 'abcdef')
  assert.equal(clip('abcdef', 5), 'abcd…')
  assert.equal(clip(paint.red('abcdef'), 6), paint.red('abcdef'))
  assert.equal(clip(`${paint.red('abc')}def`, 4), `${paint.red('abc')}…`)
  assert.equal(clip(`ab${paint.red('cdef')}`, 5), `ab${paint.red('cd…')}`)
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.string({ unit: fc.constantFrom('a', 'b') }), fc.boolean())),
      fc.integer({ min: 1, max: 40 }),
      (parts, width) => {
        const line = parts.map(([text, isRed]) => (isRed ? paint.red(text) : text)).join('')
        const plain = stripVTControlCharacters(line)
        const shown = stripVTControlCharacters(clip(line, width))
        assert.equal(shown, plain.length > width ? `${plain.slice(0, width - 1)}…` : plain)
      },
    ),
  )
})

test('a block is drawn over the one before, cut to the terminal', () => {
  const io = recordingIo({ width: 4, height: 3 })
  const screen = new Screen(io)
  screen.draw('abcdef\nb\nc\nd\n')
  assert.ok(io.out.includes('abc…\n'))
  assert.ok(!io.out.includes('c\n'), 'only as many lines as leave one for the cursor')
  assert.ok(!io.out.includes('A'), 'nothing stands above yet')
  io.out = ''
  screen.draw('x\n')
  assert.ok(io.out.includes('\x1b[2A'), 'up to the first line')
  io.out = ''
  io.width = 10
  screen.draw('x\n')
  assert.ok(io.out.includes('\x1b[2J'), 'everything anew after a resize')
  assert.ok(!io.out.includes('A'))
})
