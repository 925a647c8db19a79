import { shown } from '../console/columns.ts'
import type { PoolLimits } from '../pool/limits.ts'

interface Counted {
  readonly database: string
  readonly user: string
}

/** How many clients each database and each user has, by the names that clients ask for. */
export class ClientTally {
  readonly #databases = new Map<string, number>()
  readonly #users = new Map<string, number>()

  add({ database, user }: Counted): void {
    change(this.#databases, database, 1)
    change(this.#users, user, 1)
  }

  remove({ database, user }: Counted): void {
    change(this.#databases, database, -1)
    change(this.#users, user, -1)
  }

  /** Why a client that has been added is one too many; undefined when it is not. */
  excess(
    { database, user }: Counted,
    { dbClientsMax, userClientsMax }: Pick<PoolLimits, 'dbClientsMax' | 'userClientsMax'>,
  ): string | undefined {
    if (dbClientsMax > 0 && (this.#databases.get(database) ?? 0) > dbClientsMax) {
      return (
        `too many clients of database "${shown(database)}": no more than ${dbClientsMax} are taken here ` +
        '(max_db_client_connections)'
      )
    }
    if (userClientsMax > 0 && (this.#users.get(user) ?? 0) > userClientsMax) {
      return (
        `too many clients of user "${shown(user)}": no more than ${userClientsMax} are taken here ` +
        '(max_user_client_connections)'
      )
    }
    return undefined
  }
}

function change(counts: Map<string, number>, name: string, by: number): void {
  const count = (counts.get(name) ?? 0) + by
  if (count === 0) counts.delete(name)
  else counts.set(name, count)
}
