import { randomBytes, randomFillSync } from 'node:crypto'

/** Randomness by injection, so that a run can be repeated from its seed. */
export interface Random {
  /** Uniform in [0, 1). For jitter and choices; never for secrets. */
  next(): number
  /** Unpredictable bytes, for keys and ids. */
  bytes(count: number): Buffer
}

/** Asking the system costs as much for a few bytes as for thousands: they are drawn ahead, and each is used once. */
function drawnAhead(): (count: number) => Buffer {
  const drawn = Buffer.alloc(4096)
  let used = drawn.length
  return count => {
    if (count > drawn.length / 16) return randomBytes(count)
    if (used + count > drawn.length) {
      randomFillSync(drawn)
      used = 0
    }
    const bytes = Buffer.from(drawn.subarray(used, used + count))
    drawn.fill(0, used, used + count)
    used += count
    return bytes
  }
}

export const systemRandom: Random = {
  next: () => Math.random(),
  bytes: drawnAhead(),
}

/** A repeatable generator (mulberry32) for tests and simulation. Its bytes are not secret. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  return {
    next,
    bytes: count => Buffer.from(Array.from({ length: count }, () => Math.floor(next() * 256))),
  }
}

/** Spreads `valueMs` by up to +-`fraction`, so that many processes do not act at the same instant. */
export function jittered(random: Random, valueMs: number, fraction = 0.2): number {
  return valueMs * (1 + (random.next() * 2 - 1) * fraction)
}
