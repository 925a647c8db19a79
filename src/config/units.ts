/**
 * Durations and sizes as people write them: `30s`, `16MB`. In the configuration they are text with a unit, in
 * the program they are numbers: milliseconds and bytes. Parsing what was formatted gives the same number.
 */

/** The longest duration: what a timer of Node.js can hold (2^31 - 1 ms), as whole days. */
export const durationMsMax = 24 * 86_400_000

const durationUnits: readonly (readonly [unit: string, ms: number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
]

// PostgreSQL's units, which are powers of 1024.
const sizeUnits: readonly (readonly [unit: string, bytes: number])[] = [
  ['TB', 1024 ** 4],
  ['GB', 1024 ** 3],
  ['MB', 1024 ** 2],
  ['kB', 1024],
  ['B', 1],
]

/** `200ms`, `30s`, `5m` (or PostgreSQL's `5min`), `1h`, `1d` and `0` in ms; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  return parse(text.replace(/min$/, 'm'), durationUnits)
}

/** Shortest exact form: 90000 is `90s`, 60000 is `1m`. `ms` must be a whole number. */
export function formatDuration(ms: number): string {
  return format(ms, durationUnits)
}

/** `512B`, `64kB`, `16MB`, `1GB`, `1TB` and `0` in bytes; undefined for anything else. */
export function parseSize(text: string): number | undefined {
  return parse(text, sizeUnits)
}

/** Largest unit that is exact: 16777216 is `16MB`, 1500 is `1500B`. `bytes` must be a whole number. */
export function formatSize(bytes: number): string {
  return format(bytes, sizeUnits)
}

function parse(text: string, units: readonly (readonly [string, number])[]): number | undefined {
  if (text === '0') return 0
  const parts = /^(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]+)$/.exec(text)
  if (!parts) return undefined
  const factor = units.find(([unit]) => unit === parts[2])?.[1]
  if (factor === undefined) return undefined
  const value = Math.round(Number(parts[1]) * factor)
  return Number.isSafeInteger(value) ? value : undefined
}

function format(value: number, units: readonly (readonly [string, number])[]): string {
  if (value === 0) return '0'
  const [unit, factor] = units.find(([, factor]) => value % factor === 0) ?? ['', 1]
  return `${value / factor}${unit}`
}
