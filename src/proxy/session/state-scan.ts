/**
 * Looks for the one kind of session state that a server will not tell about when asked: settings of a made-up
 * class such as `SET app.tenant = '7'`, which row-level security policies often read. (`pg_settings` hides them.)
 * A statement is suspicious when it has the word SET and a dot after it, or `set_config`. Suspicion costs only
 * that the session is not moved to another server by itself, so it may be wrong in that direction.
 */
export function keepsHiddenState(buffer: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at + 3 <= end; at++) {
    // Most bytes fail the first comparison; | 0x20 folds ASCII case.
    if ((buffer[at]! | 0x20) !== 0x73) continue // s
    if ((buffer[at + 1]! | 0x20) !== 0x65 || (buffer[at + 2]! | 0x20) !== 0x74) continue // e t
    if (at > start && isWordByte(buffer[at - 1]!)) continue
    const next = at + 3 < end ? buffer[at + 3]! : 0
    if (next === 0x5f) return true // _ : set_config, or a name that begins like it
    if (!isWordByte(next) && hasDot(buffer, at + 3, end)) return true
  }
  return false
}

function hasDot(buffer: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (buffer[at] === 0x2e) return true
  return false
}

function isWordByte(byte: number): boolean {
  return (
    (byte >= 0x61 && byte <= 0x7a) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x30 && byte <= 0x39) ||
    byte === 0x5f ||
    byte >= 0x80
  )
}
