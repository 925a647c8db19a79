import type { Random } from '../../src/runtime/random.ts'

/** A copy of some bytes with one to four faults in it: a flipped, cut, inserted, repeated or overwritten part. */
export function mutated(random: Random, bytes: Buffer): Buffer {
  const below = (limit: number): number => Math.floor(random.next() * limit)
  const noise = (length: number): Buffer => Buffer.from(Array.from({ length }, () => below(256)))
  let result = Buffer.from(bytes)
  for (let faults = 1 + below(4); faults > 0 && result.length > 0; faults--) {
    const at = below(result.length)
    const part = 1 + below(12)
    const before = result.subarray(0, at)
    switch (below(5)) {
      case 0:
        result[at] = result[at]! ^ (1 << below(8))
        break
      case 1:
        result = Buffer.concat([before, result.subarray(at + part)])
        break
      case 2:
        result = Buffer.concat([before, noise(part), result.subarray(at)])
        break
      case 3:
        result = Buffer.concat([before, result.subarray(at, at + 4 * part), result.subarray(at)])
        break
      default:
        result = Buffer.concat([before, noise(part), result.subarray(at + part)])
    }
  }
  return result
}
