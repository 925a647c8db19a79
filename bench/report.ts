/** What a measurement gave, round by round. */
export interface Series {
  name: string
  unit: string
  /** By contestant, one value a round. */
  values: Record<string, number[]>
}

const baseline = 'PgBouncer'

/** Prints the medians with their spread, and each as a ratio to PgBouncer; or all of it as JSON. */
export function report(series: readonly Series[], asJson: boolean): void {
  if (asJson) {
    console.log(JSON.stringify(series.map(each => ({ ...each, medians: mediansOf(each) }))))
    return
  }
  for (const each of series) {
    const medians = mediansOf(each)
    console.log(`${each.name} (${each.unit})`)
    for (const [name, values] of Object.entries(each.values)) {
      const spread = `${shown(Math.min(...values))} to ${shown(Math.max(...values))}`
      const ratio = medians[name]! / medians[baseline]!
      const compared = name === baseline ? '' : `${ratio.toFixed(2)} x ${baseline}`
      console.log(
        `  ${name.padEnd(10)} ${shown(medians[name]!).padStart(10)}   ${spread.padEnd(24)} ${compared}`,
      )
    }
  }
}

function mediansOf({ values }: Series): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, all]) => [name, median(all)]))
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

function shown(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2)
}
