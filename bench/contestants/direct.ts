import type { Contestant } from './contestant.ts'

/** Clients connect to PostgreSQL itself: each has a server process of its own. */
export function direct(version: string): Contestant {
  return {
    name: 'direct',
    title: 'direct',
    version,
    checksPasswords: false,
    isSubject: false,
    asServerAccount: false,
  }
}
