import pc from 'picocolors'
import type { ReadFile } from '../config/files.ts'
import type { Environment } from '../config/layers.ts'

/** What a command has of the world. Injected, so that commands can be tested in process. */
export interface CommandIo {
  /** Results. Text is written as it is; lines end with a newline. */
  stdout(text: string): void
  /** Everything that is not a result: errors, warnings, progress. */
  stderr(text: string): void
  env: Environment
  /** Whether standard output shows colours. */
  colour: boolean
  /** Whether standard error does. */
  stderrColour: boolean
  /** Columns of the terminal; undefined when standard output is not one. */
  width: number | undefined
  /** Rows of the terminal; undefined when standard output is not one. */
  height: number | undefined
  readFile: ReadFile
  /** Asks whoever sits at the terminal for a secret, without showing it; undefined where nobody does. */
  askSecret?: ((question: string) => Promise<string>) | undefined
}

export type CommandErrorCode =
  /** The operation did not succeed. Exit code 1. */
  | 'failed'
  /** Wrong arguments or configuration: the same call cannot succeed later. Exit code 2. */
  | 'usage'

/** Ends a command with one sentence. Anything else thrown is reported the same way with exit code 1. */
export class CommandError extends Error {
  readonly code: CommandErrorCode
  /** What to do about it, as a sentence without its end. */
  readonly hint: string | undefined

  constructor(code: CommandErrorCode, message: string, options: ErrorOptions & { hint?: string } = {}) {
    super(message, options)
    this.name = 'CommandError'
    this.code = code
    this.hint = options.hint
  }
}

export function exitCodeOf(error: unknown): 1 | 2 {
  return error instanceof CommandError && error.code === 'usage' ? 2 : 1
}

/** `error: <sentence>` and, where there is one, `hint: <sentence>` on standard error. */
export function printError(io: CommandIo, error: unknown): void {
  const paint = painter(io.stderrColour)
  io.stderr(`${paint.red('error:')} ${error instanceof Error ? error.message : String(error)}\n`)
  // The errors of other modules carry their hints in the same place.
  if (error instanceof Error && 'hint' in error && typeof error.hint === 'string') {
    io.stderr(`${paint.cyan('hint:')} ${error.hint}\n`)
  }
}

export function printWarning(io: CommandIo, message: string, hint?: string): void {
  const paint = painter(io.stderrColour)
  io.stderr(`${paint.yellow('warning:')} ${message}${hint === undefined ? '' : ` (${hint})`}\n`)
}

/** A result for scripts: JSON, indented, one document a call. */
export function printJson(io: CommandIo, value: unknown): void {
  io.stdout(`${JSON.stringify(value, null, 2)}\n`)
}

export type Painter = ReturnType<typeof pc.createColors>

/** Colours, or their absence. */
export function painter(colour: boolean): Painter {
  return pc.createColors(colour)
}

/** Whether to use colours: on a terminal that can show them, unless `NO_COLOR` is set to anything. */
export function wantsColour(isTerminal: boolean, env: Environment): boolean {
  return isTerminal && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
}

export interface Column<Row> {
  title: string
  /** Cells stand at the right when all are numbers, also with units. Undefined and '' make an empty cell. */
  value: (row: Row) => string | number | undefined
  /** Left out where the terminal is too narrow for all; the rightmost of these first. */
  optional?: true
  /** Colours a finished cell. */
  paint?: (cell: string, row: Row, paint: Painter) => string
}

export interface TableOptions {
  colour: boolean
  /** Longest line; what is optional is left out and the last column is cut to fit. Undefined for no limit. */
  width?: number | undefined
}

/** Between two columns. */
const gap = '  '

/** Aligned columns under a header, two spaces apart; the header is bold where there are colours. */
export function table<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: TableOptions,
): string {
  const paint = painter(options.colour)
  const laidOut = fitted(
    columns.map(column => layOut(column, rows)),
    options.width ?? Number.POSITIVE_INFINITY,
  )
  const header = laidOut.map(column => aligned(column.title, column)).join(gap)
  const lines = rows.map((row, rowIndex) => {
    const cells = laidOut.map(column => {
      const cell = aligned(column.cells[rowIndex] ?? '', column)
      return column.paint?.(cell, row, paint) ?? cell
    })
    return options.colour ? cells.join(gap) : cells.join(gap).trimEnd()
  })
  return [paint.bold(header.trimEnd()), ...lines].map(line => `${line}\n`).join('')
}

interface LaidOut<Row> extends Pick<Column<Row>, 'title' | 'optional' | 'paint'> {
  cells: string[]
  right: boolean
  width: number
}

function layOut<Row>(column: Column<Row>, rows: readonly Row[]): LaidOut<Row> {
  const values = rows.map(row => column.value(row))
  const cells = values.map(value =>
    typeof value === 'number' ? formatNumber(value) : printable(value ?? ''),
  )
  const present = values.filter(value => value !== undefined && value !== '' && value !== '-')
  return {
    ...column,
    cells,
    right: present.length > 0 && present.every(value => quantityPattern.test(String(value))),
    width: Math.max(column.title.length, ...cells.map(cell => cell.length)),
  }
}

/** Leaves out and cuts columns until the lines are no longer than `width`. */
function fitted<Row>(columns: LaidOut<Row>[], width: number): LaidOut<Row>[] {
  const kept = [...columns]
  const total = (): number => kept.reduce((sum, column) => sum + column.width + gap.length, -gap.length)
  while (total() > width) {
    const index = kept.findLastIndex(column => column.optional)
    if (index < 0) break
    kept.splice(index, 1)
  }
  let left = width
  for (const column of kept) {
    column.width = Math.min(column.width, Math.max(left, 0))
    left -= column.width + gap.length
  }
  return kept.filter(column => column.width > 0)
}

/** A number, alone or with a unit: `12`, `1.2 s`, `3 h 20 min`. Not an address. */
const quantityPattern = /^-?[\d,]+(\.\d+)?( [A-Za-z%]+( \d+ [A-Za-z]+)?)?$/

function aligned(text: string, { right, width }: { right: boolean; width: number }): string {
  const cut = text.length > width ? `${text.slice(0, width - 1)}…` : text
  return right ? cut.padStart(width) : cut.padEnd(width)
}

/** Without control characters: what other processes put into the store must not steer a terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ')
}

/** `12345` as `12,345`; fractions keep up to two digits. */
export function formatNumber(value: number): string {
  return Number.isFinite(value) ? numbers.format(value) : '-'
}

const numbers = new Intl.NumberFormat('en-US', { maximumFractionDigits: 2 })

/** Bytes for people: `512 B`, `1.5 kB`, `16 MB`; powers of 1024, at most three digits. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return '-'
  let rest = Math.abs(bytes)
  let index = 0
  while (Math.round(rest) >= 1024 && index < byteUnits.length - 1) {
    rest /= 1024
    index++
  }
  return `${bytes < 0 ? '-' : ''}${index === 0 ? Math.round(rest) : threeDigits(rest)} ${byteUnits[index]}`
}

/** A duration for people: `0 ms`, `0.4 ms`, `320 ms`, `1.2 s`, `5 min`, `3 h 20 min`, `2 d 4 h`. */
export function formatElapsed(ms: number): string {
  if (!Number.isFinite(ms)) return '-'
  if (ms < 0) return `-${formatElapsed(-ms)}`
  if (ms < 999.5) return `${threeDigits(ms)} ms`
  if (ms < 59_950) return `${threeDigits(ms / 1000)} s`
  const minutes = Math.round(ms / 60_000)
  if (minutes < 60) return `${minutes} min`
  if (minutes < 24 * 60) return pair(minutes, 60, 'h', 'min')
  return pair(Math.round(minutes / 60), 24, 'd', 'h')
}

function pair(value: number, base: number, big: string, small: string): string {
  const rest = value % base
  return rest === 0 ? `${value / base} ${big}` : `${Math.floor(value / base)} ${big} ${rest} ${small}`
}

const byteUnits = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

function threeDigits(value: number): string {
  const digits = value >= 99.95 ? 0 : 1
  return value.toFixed(digits).replace(/\.0$/, '')
}

/** `1 node`, `2 nodes`. */
export function counted(count: number, noun: string): string {
  return `${formatNumber(count)} ${noun}${count === 1 ? '' : 's'}`
}
