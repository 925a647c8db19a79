/** Whether two plain values say the same. A field without a value counts as a field. */
export function isSame(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  const [before, after] = [a as Record<string, unknown>, b as Record<string, unknown>]
  const names = Object.keys(before)
  return names.length === Object.keys(after).length && names.every(name => isSame(before[name], after[name]))
}
