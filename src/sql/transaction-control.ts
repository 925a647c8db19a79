/** A statement that does nothing but begin or end a transaction, in a form whose answer is known beforehand. */
export interface TransactionControl {
  readonly kind: 'begin' | 'commit' | 'rollback'
  /** The tag of PostgreSQL's CommandComplete. */
  readonly tag: 'BEGIN' | 'START TRANSACTION' | 'COMMIT' | 'ROLLBACK'
  /** The same statement in one way of writing it: equal texts do the same. */
  readonly text: string
  /** A server in recovery, which a standby is, refuses it. */
  readonly failsInRecovery: boolean
}

/** The longest text that is looked at: all modes with room between them. */
export const controlBytesMax = 160

/**
 * Reads a text, one character a byte, as one of the statements that begin or end a transaction. Undefined for
 * everything else, and for what has a comment, a mode twice, or asks for more (`AND CHAIN`, `PREPARED`): servers
 * answer those. Source: PostgreSQL documentation, "BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK".
 */
export function readTransactionControl(text: string): TransactionControl | undefined {
  const ended = ends.exec(text)
  if (ended) return /^(commit|end)$/i.test(ended[1]!) ? commit : rollback
  const begun = begins.exec(text)
  if (!begun) return undefined
  const modes = readModes(begun[2]!)
  if (!modes) return undefined
  return {
    kind: 'begin',
    tag: begun[1] === undefined ? 'BEGIN' : 'START TRANSACTION',
    text: modes.length === 0 ? 'BEGIN' : `BEGIN ${modes.join(', ')}`,
    failsInRecovery: modes.some(mode => mode === 'READ WRITE' || mode === 'ISOLATION LEVEL SERIALIZABLE'),
  }
}

const commit: TransactionControl = { kind: 'commit', tag: 'COMMIT', text: 'COMMIT', failsInRecovery: false }
const rollback: TransactionControl = {
  kind: 'rollback',
  tag: 'ROLLBACK',
  text: 'ROLLBACK',
  failsInRecovery: false,
}

/** What PostgreSQL of every version takes for a blank; `\s` would be more. */
const blank = '[ \\t\\n\\r\\f]'
const noise = `(?:${blank}+(?:work|transaction))?`
const end = `[ \\t\\n\\r\\f;]*$`
const level = `isolation${blank}+level${blank}+(?:serializable|repeatable${blank}+read|read${blank}+(?:un)?committed)`
const mode = `(?:${level}|read${blank}+(?:only|write)|(?:not${blank}+)?deferrable)`
const modes = `(?:${blank}+${mode}(?:(?:${blank}*,${blank}*|${blank}+)${mode})*)?`
const ends = new RegExp(`^${blank}*(commit|end|rollback|abort)${noise}${end}`, 'i')
const begins = new RegExp(`^${blank}*(?:begin${noise}|(start)${blank}+transaction)(${modes})${end}`, 'i')
const eachMode = new RegExp(mode, 'gi')

/** The modes in capitals and in order; undefined when one is there twice, where the order may matter. */
function readModes(text: string): string[] | undefined {
  const found = (text.match(eachMode) ?? []).map(each => each.toUpperCase().replace(/[ \t\n\r\f]+/g, ' '))
  const kinds = new Set(found.map(kindOf))
  return kinds.size === found.length ? found.sort() : undefined
}

function kindOf(mode: string): string {
  if (mode.startsWith('ISOLATION')) return 'isolation'
  return mode.endsWith('DEFERRABLE') ? 'deferrable' : 'access'
}
