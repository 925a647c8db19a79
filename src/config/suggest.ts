/** Longest word that is compared; nobody misspells longer ones by one letter. */
const wordLengthMax = 64

/**
 * The known words that `word` may have been meant to be: all of the smallest distance, at most a third of the
 * word's letters but always one edit. Empty when nothing is near.
 */
export function nearest(word: string, knownWords: Iterable<string>): string[] {
  if (word.length > wordLengthMax) return []
  let limit = Math.max(1, Math.floor(word.length / 3))
  let found: string[] = []
  for (const known of new Set(knownWords)) {
    const distance = editDistance(word.toLowerCase(), known.toLowerCase())
    if (distance < limit || (distance === limit && found.length === 0)) {
      limit = distance
      found = [known]
    } else if (distance === limit) {
      found.push(known)
    }
  }
  return found
}

/** Letters inserted, removed, replaced, or swapped with their neighbour (optimal string alignment). */
export function editDistance(left: string, right: string): number {
  const width = right.length + 1
  const table = new Uint16Array((left.length + 1) * width)
  const at = (row: number, column: number): number => table[row * width + column]!
  for (let column = 0; column < width; column++) table[column] = column
  for (let row = 1; row <= left.length; row++) {
    table[row * width] = row
    for (let column = 1; column < width; column++) {
      const same = left[row - 1] === right[column - 1] ? 0 : 1
      let best = Math.min(at(row - 1, column) + 1, at(row, column - 1) + 1, at(row - 1, column - 1) + same)
      const swapped = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]
      if (row > 1 && column > 1 && swapped) best = Math.min(best, at(row - 2, column - 2) + 1)
      table[row * width + column] = best
    }
  }
  return at(left.length, right.length)
}

/** "did you mean `a`?", "did you mean `a` or `b`?"; undefined for no words. At most three are named. */
export function didYouMean(words: readonly string[]): string | undefined {
  if (words.length === 0) return undefined
  const quoted = words.slice(0, 3).map(word => `\`${word}\``)
  const last = quoted.pop()
  return `did you mean ${quoted.length === 0 ? last : `${quoted.join(', ')} or ${last}`}?`
}
