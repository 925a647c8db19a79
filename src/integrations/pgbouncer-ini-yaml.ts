import { stringify } from 'yaml'
import { sections } from '../config/keys.ts'
import type { ImportNote, Outcome } from './pgbouncer-ini-draft.ts'
import type { Imported } from './pgbouncer-ini-translate.ts'

/** What each outcome is called, in the order in which they are listed: what needs a look comes first. */
export const outcomeTitles: Readonly<Record<Outcome, string>> = {
  needed: 'Needed besides',
  dropped: 'Not carried over',
  changed: 'Carried over with another meaning',
  unknown: 'Not known',
  unneeded: 'Not needed',
}

/** The notes of each outcome that has any. */
export function notesByOutcome(notes: readonly ImportNote[]): [outcome: Outcome, notes: ImportNote[]][] {
  const outcomes = Object.keys(outcomeTitles) as Outcome[]
  return outcomes
    .map((outcome): [Outcome, ImportNote[]] => [outcome, notes.filter(note => note.outcome === outcome)])
    .filter(([, those]) => those.length > 0)
}

/** The file of pgherd, with what was not carried over in comments at its end. `source` is the file it is made from. */
export function importedYaml({ config, notes }: Imported, source: string): string {
  const lines = [`# pgherd configuration, made of ${comment(source)} by \`pgherd import\`.`]
  if (notes.length > 0) lines.push('# What was not carried over as it is stands at the end.')
  lines.push('', stringify(ordered(config, ''), { lineWidth: 0 }).trimEnd())
  for (const [outcome, those] of notesByOutcome(notes)) {
    lines.push('', `# ${outcomeTitles[outcome]}:`)
    for (const note of those) {
      lines.push('#', `#   ${comment(noteTitle(note))}`)
      for (const line of wrapped(comment(reasonOf(note)), 100)) lines.push(`#     ${line}`)
    }
  }
  return `${lines.join('\n')}\n`
}

/** `pool_mode = session`, as a person would find it in the file. */
export function noteTitle({ name, value }: ImportNote): string {
  return value === '' ? `${name} is not set` : `${name} = ${value}`
}

export function reasonOf({ why, todo }: ImportNote): string {
  return todo === '' ? why : `${why} ${todo}`
}

/** Text in lines of at most `width` characters, save words that are longer. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}

/** Nothing that ends the line of a comment. */
function comment(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, ' ')
}

/** Keys in the order of the schema; names of databases and users as they are. */
function ordered(value: unknown, pattern: string): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const known = sections.find(section => section.pattern === pattern)?.keys
  const keys = known ? known.filter(key => Object.hasOwn(value, key)) : Object.keys(value)
  const entries = keys.map((key): [string, unknown] => {
    const child = known ? `${pattern === '' ? '' : `${pattern}.`}${key}` : `${pattern}.*`
    return [key, ordered((value as Record<string, unknown>)[key], child)]
  })
  return new Map(entries)
}
