import { BenchError } from './error.ts'

const begin = '<!-- bench: begin -->'
const end = '<!-- bench: end -->'

/**
 * Puts the sections of workloads that were measured between the two marks of a page. Sections of other workloads stay
 * as they are, so that a page can be made in several runs; all stand in the order of `names`.
 */
export function putSections(
  page: string,
  sections: ReadonlyMap<string, string>,
  names: readonly string[],
): string {
  const from = page.indexOf(begin)
  const to = page.indexOf(end)
  if (from === -1 || to < from) {
    throw new BenchError('usage', `the page has no line ${begin} with a line ${end} after it: put them back`)
  }
  const kept = sectionsIn(page.slice(from + begin.length, to))
  const all = names.flatMap(name => sections.get(name) ?? kept.get(name) ?? [])
  return `${page.slice(0, from)}${begin}\n\n${all.map(section => `${section.trim()}\n\n`).join('')}${page.slice(to)}`
}

/** By workload: each begins with a heading that is its name. */
function sectionsIn(text: string): Map<string, string> {
  const sections = new Map<string, string>()
  for (const section of text.split(/^(?=### )/m)) {
    const name = /^### (\S+)$/m.exec(section)?.[1]
    if (name !== undefined) sections.set(name, section)
  }
  return sections
}
