import { StoreError, type Transaction, transactionOperationsMax, valueBytesMax } from './store.ts'

/**
 * Refuses what some backend would refuse, before anything is sent, so that all of them refuse the same.
 * @throws StoreError `invalid`
 */
export function checkTransaction(transaction: Transaction): void {
  const { compares, writes } = transaction
  if (compares.length > transactionOperationsMax || writes.length > transactionOperationsMax) {
    throw new StoreError(
      'invalid',
      `a transaction of ${compares.length} compares and ${writes.length} writes is too large: ` +
        `split it, at most ${transactionOperationsMax} of each are allowed`,
    )
  }
  for (const compare of compares) checkKey(compare.key)
  const written = new Set<string>()
  for (const write of writes) {
    checkKey(write.key)
    if (written.has(write.key)) {
      throw new StoreError('invalid', `key ${write.key} is written twice in one transaction: write it once`)
    }
    written.add(write.key)
    if (write.kind === 'put') checkValue(write.key, write.value)
  }
}

/** @throws StoreError `invalid` for the empty key. */
export function checkKey(key: string): void {
  if (key === '') throw new StoreError('invalid', 'a key must not be empty: name the key')
}

/** @throws StoreError `invalid` when `ttlMs` is not a positive number of at most a day. */
export function checkTtl(ttlMs: number): void {
  if (!(ttlMs > 0 && ttlMs <= ttlMsMax)) {
    throw new StoreError('invalid', `a lease of ${ttlMs} ms cannot be granted: ask for 1 ms to one day`)
  }
}

const ttlMsMax = 24 * 60 * 60 * 1000

function checkValue(key: string, value: string): void {
  // A UTF-16 unit takes at most three bytes of UTF-8: most values need not be counted.
  if (value.length * 3 <= valueBytesMax) return
  const bytes = Buffer.byteLength(value)
  if (bytes <= valueBytesMax) return
  throw new StoreError(
    'invalid',
    `the value of ${key} is ${bytes} bytes: make it smaller, ${valueBytesMax} bytes are allowed`,
  )
}
