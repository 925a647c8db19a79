/**
 * A regular expression as PostgreSQL's own files write it, behind a slash: `/^app_\d+$`. Most of PostgreSQL's syntax is
 * JavaScript's too; what is not is refused. Returns what is wrong with it where it cannot be used.
 */
export function compilePattern(text: string): RegExp | string {
  const source = text.slice(1)
  // JavaScript would take a POSIX class for something else without a word.
  if (/\[[:.=]/.test(source)) return `"${source}" has a POSIX character class: use \\d, \\w or ranges as a-z`
  try {
    return new RegExp(source, 'u')
  } catch {
    return `"${source}" is not a regular expression`
  }
}

export function isPattern(text: string): boolean {
  return text.startsWith('/')
}
