/** What an operator has closed, by the names of databases that clients ask for. */
export interface GatesData {
  /** Every database is paused. */
  allPaused: boolean
  paused: string[]
  disabled: string[]
}

export const openGates: GatesData = { allPaused: false, paused: [], disabled: [] }

/** Which databases are paused (their clients wait) or disabled (new clients are refused). */
export class Gates {
  #allPaused = false
  #paused: ReadonlySet<string> = new Set()
  #disabled: ReadonlySet<string> = new Set()

  set(data: GatesData): void {
    this.#allPaused = data.allPaused
    this.#paused = new Set(data.paused)
    this.#disabled = new Set(data.disabled)
  }

  isPaused(database: string): boolean {
    return this.#allPaused || (this.#paused.size > 0 && this.#paused.has(database))
  }

  isDisabled(database: string): boolean {
    return this.#disabled.has(database)
  }
}
