import type { Client } from '../client/client.ts'
import { type PinReason, pinReasons } from '../session/session-question.ts'

/** Why clients keep their server connection: the pins, and the one reason that is none of the session's state. */
export const keepReasons = {
  ...pinReasons,
  own_login: 'its login was the server’s to check, so that nobody else may have that connection',
} as const
export type KeepReason = PinReason | 'own_login'

/** Why a client keeps its server connection now; empty when it need not. */
export function reasonsOf(client: Client): readonly KeepReason[] {
  if (client.session) return client.session.pins
  return client.mode !== 'session' && client.server ? ['own_login'] : []
}

/** Which clients are pinned and since when, kept up to date with every change. */
export class PinLedger {
  /** Pinned clients by reason. */
  readonly pinned: Record<PinReason, number>
  readonly #sinceMs = new WeakMap<Client, number>()

  constructor(pinned: Record<PinReason, number>) {
    this.pinned = pinned
  }

  /** The reasons of a client were `before`, and are `after` now. */
  change(client: Client, before: readonly PinReason[], after: readonly PinReason[], nowMs: number): void {
    for (const reason of before) this.pinned[reason]--
    for (const reason of after) this.pinned[reason]++
    if (after.length === 0) this.#sinceMs.delete(client)
    else if (before.length === 0) this.#sinceMs.set(client, nowMs)
  }

  /** When its first pin began; when it came where that is none of the session's. */
  sinceMs(client: Client): number {
    return this.#sinceMs.get(client) ?? client.connectedMs
  }
}
