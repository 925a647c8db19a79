import { stripVTControlCharacters } from 'node:util'
import type { CommandIo } from './output.ts'

const escape = '\x1b'
const clearScreen = `${escape}[H${escape}[2J`
const clearLineEnd = `${escape}[K`
const clearBelow = `${escape}[J`
/** What the terminal counts wider than we do, such as Chinese, must not wrap either. */
const wrapOff = `${escape}[?7l`
const wrapOn = `${escape}[?7h`

/** Shows one block of lines on a terminal again and again, each over the one before. */
export class Screen {
  readonly #io: CommandIo
  #linesDrawn = 0
  #size: string | undefined

  constructor(io: CommandIo) {
    this.#io = io
  }

  clear(): void {
    this.#io.stdout(clearScreen)
    this.#linesDrawn = 0
  }

  /** Lines that are too long or too many for the terminal are cut: one that wraps would break the next drawing. */
  draw(text: string): void {
    const { width = Number.POSITIVE_INFINITY, height = Number.POSITIVE_INFINITY } = this.#io
    const size = `${width} ${height}`
    // After a resize nobody knows where the lines are.
    if (this.#size !== undefined && this.#size !== size) this.clear()
    this.#size = size
    const lines = text.replace(/\n$/, '').split('\n').slice(0, linesThatFit(height))
    const up = this.#linesDrawn > 0 ? `${escape}[${this.#linesDrawn}A` : ''
    // Cleared first: at the end of a full line it would take the last character.
    const drawn = lines.map(line => `${clearLineEnd}${clip(line, width)}\n`).join('')
    this.#io.stdout(`${wrapOff}\r${up}${drawn}${clearBelow}${wrapOn}`)
    this.#linesDrawn = lines.length
  }
}

/** The cursor stands on a line of its own below the block. */
export function linesThatFit(height: number): number {
  return Math.max(height - 1, 1)
}

/** Cuts a line to `width` characters, of which colours are none. */
export function clip(line: string, width: number): string {
  if (stripVTControlCharacters(line).length <= width) return line
  let left = width - 1
  const parts = line.split(colours).map((part, index) => {
    // All are kept, so that each ends.
    if (index % 2 === 1) return part
    const endsHere = left >= 0 && part.length > left
    const shown = part.slice(0, Math.max(left, 0))
    left -= part.length
    return endsHere ? `${shown}…` : shown
  })
  return parts.join('')
}

const colours = new RegExp(`(${escape}\\[[\\d;]*m)`)
