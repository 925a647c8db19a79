export type BenchErrorCode = 'usage' | 'not_started' | 'load_failed'

/** Why a bench, or one cell of it, cannot be measured. */
export class BenchError extends Error {
  readonly code: BenchErrorCode

  constructor(code: BenchErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BenchError'
    this.code = code
  }
}
