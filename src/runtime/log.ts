import { type Logger, pino, stdTimeFunctions } from 'pino'

export type { Logger } from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

export interface LogOptions {
  level: LogLevel
  /** `json`: one JSON object a line. `text`: one readable line an event. */
  format: 'json' | 'text'
  /** Where lines go; the process's standard error by default, so that standard output stays for results. */
  write?: (line: string) => void
}

/** Fields that are secret wherever they turn up in a logged object, down to two levels. */
const secretFields = ['password', 'token', 'secret', 'key']
const redactPaths = secretFields.flatMap(field => [field, `*.${field}`, `*.*.${field}`])

/**
 * The process's log. Events are sentences; `event` (a stable id such as `node.role`) and the data go beside
 * them as fields. Secrets are redacted by field name.
 */
export function createLogger(options: LogOptions): Logger {
  const write = options.write ?? ((line: string) => void process.stderr.write(line))
  const children = new Set<Logger>()
  const stream = options.format === 'json' ? { write } : { write: (line: string) => write(toText(line)) }
  const log = pino(
    {
      level: options.level,
      onChild: child => children.add(child),
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      redact: { paths: redactPaths, censor: '[redacted]' },
    },
    stream,
  )
  families.set(log, children)
  return log
}

/** The children of each log, which have levels of their own. They are few and live as long as their process. */
const families = new WeakMap<Logger, Set<Logger>>()

/** Changes the level of a log and of everything that was made from it. */
export function setLogLevel(log: Logger, level: LogLevel): void {
  log.level = level
  for (const child of families.get(log) ?? []) child.level = level
}

/** A log that says nothing, for tests and one-shot commands. */
export const silentLogger: Logger = pino({ level: 'silent' })

interface LogLine {
  level: string
  time: string
  msg?: string
  err?: { message?: string; stack?: string }
  [field: string]: unknown
}

/** One readable line: time, level, sentence, then the fields that are not part of every line. */
function toText(json: string): string {
  const { level, time, msg, err, event, ...fields } = JSON.parse(json) as LogLine
  let text = `${time.slice(11, 23)} ${level.padEnd(5)} ${msg ?? ''}`
  if (typeof event === 'string' && !msg) text += event
  const rest = Object.entries(fields)
  if (rest.length > 0) text += ` (${rest.map(([name, value]) => `${name}=${asText(value)}`).join(' ')})`
  if (err?.message) text += `: ${err.message}`
  return `${onOneLine(text)}\n`
}

/** What clients choose, such as a user's name, must not look like a line of its own or move a terminal's cursor. */
function onOneLine(text: string): string {
  const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  return text.replace(/\p{Cc}/gu, escaped)
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}
