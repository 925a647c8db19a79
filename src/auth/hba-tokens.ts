/**
 * The lines and fields of PostgreSQL's pg_hba.conf. Source: PostgreSQL's documentation, "The pg_hba.conf File": a
 * field ends at a space, values of a field are separated by commas, double quotes take spaces, commas, `#` and the
 * meaning of a keyword from what is within (a doubled one is the character), `#` begins a comment, and a backslash
 * at the end of a line continues it.
 */

export interface HbaToken {
  text: string
  /** Begins with a quote: it is a name, whatever it says. */
  quoted: boolean
}

/** The values of one field. */
export type HbaField = HbaToken[]

export interface HbaLine {
  /** 1-based; of its first line when it is continued. */
  line: number
  text: string
}

/** Lines with continued ones joined. */
export function hbaLines(text: string): HbaLine[] {
  const lines: HbaLine[] = []
  let open: HbaLine | undefined
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const continues = raw.endsWith('\\')
    const part = continues ? raw.slice(0, -1) : raw
    open = open ? { line: open.line, text: open.text + part } : { line: index + 1, text: part }
    if (continues) continue
    lines.push(open)
    open = undefined
  }
  if (open) lines.push(open)
  return lines
}

/** The fields of a line; undefined when a quote is not closed. */
export function hbaFields(line: string): HbaField[] | undefined {
  const fields: HbaField[] = []
  let listGoesOn = false
  let at = 0
  while (at < line.length) {
    const character = line[at]!
    if (character === '#') break
    if (isBlank(character) || character === ',') {
      at++
      continue
    }
    const read = readToken(line, at)
    if (!read) return undefined
    if (listGoesOn) fields.at(-1)!.push(read.token)
    else fields.push([read.token])
    // Only a comma that touches its value makes a list: `a, b` is one field, `a ,b` is two.
    listGoesOn = line[read.end] === ','
    at = read.end
  }
  return fields
}

function readToken(line: string, start: number): { token: HbaToken; end: number } | undefined {
  let text = ''
  let inQuotes = false
  let at = start
  for (; at < line.length; at++) {
    const character = line[at]!
    if (character === '"') {
      if (inQuotes && line[at + 1] === '"') {
        text += '"'
        at++
      } else inQuotes = !inQuotes
    } else if (!inQuotes && (isBlank(character) || character === ',' || character === '#')) break
    else text += character
  }
  return inQuotes ? undefined : { token: { text, quoted: line[start] === '"' }, end: at }
}

function isBlank(character: string): boolean {
  return character === ' ' || character === '\t' || character === '\r'
}
