import type { ConsoleSettings } from '../control/ipc.ts'
import { isLoopback } from '../startup/server-account.ts'
import { shown } from './columns.ts'

/** `admin` may do all, `stats` may only look. */
export type Rights = 'admin' | 'stats'

export interface ConsoleVisitor {
  /** `address:port`, or `[address]:port`. */
  address: string
  /** As it came. */
  user: string
  /** The proxy itself has checked who it is. */
  isChecked: boolean
}

/** PgBouncer's own console has this name; programs that read it connect to it. */
export const pgbouncerName = 'pgbouncer'

/** Whether a database of this name is the console. */
export function isConsole(database: string, { database: name }: ConsoleSettings): boolean {
  return shown(database) === name || database === pgbouncerName
}

/** What a visitor may do, or a sentence that says why it may not come in, with what to do about it. */
export function consoleAccess(
  visitor: ConsoleVisitor,
  { adminUsers, statsUsers }: ConsoleSettings,
): Rights | { refusal: string; hint: string } {
  const user = shown(visitor.user)
  const isLocal = isLoopback(hostOf(visitor.address))
  if (!visitor.isChecked) {
    if (isLocal) return 'admin'
    return {
      refusal: 'the console takes connections of its own machine only, for this proxy does not check logins',
      hint: 'Connect from the machine of the proxy, or set proxy.auth.method to proxy.',
    }
  }
  if (adminUsers.includes(user)) return 'admin'
  if (statsUsers.includes(user)) return 'stats'
  if (adminUsers.length + statsUsers.length === 0 && isLocal) return 'admin'
  return {
    refusal: `user "${user}" may not use the console`,
    hint: 'Put the user into proxy.console.admin_users or proxy.console.stats_users.',
  }
}

/** The part of `address:port` before the port, without brackets. */
function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1')
}
