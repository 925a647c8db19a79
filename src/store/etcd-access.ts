import type { Access, AccessStep, Permission } from './access.ts'
import { ConnectionTracker } from './connection.ts'
import type { EtcdStoreOptions } from './etcd.ts'
import { EtcdCaller } from './etcd-caller.ts'
import { EtcdEndpoints, readCredentials } from './etcd-endpoints.ts'
import { type Answer, authMethods, type Method, type PermissionMessage } from './etcd-messages.ts'

/** The users and roles of an etcd cluster. Whoever connects needs etcd's own role `root` once authentication is on. */
export interface EtcdAccess {
  /** What is there of the users and roles whose names are `wanted`. */
  read(wanted: (name: string) => boolean): Promise<Access>
  /**
   * Carries out one step. `password` is for a new user; without one it can only come with a client certificate.
   * @throws StoreError `denied`, `invalid` when what it builds on is not there, `unavailable` when it may have happened
   */
  apply(step: AccessStep, password?: string): Promise<void>
  close(): void
}

/** @throws StoreError as `openEtcdStore` */
export async function openEtcdAccess(options: EtcdStoreOptions): Promise<EtcdAccess> {
  if (options.tls) await readCredentials(options.tls)
  return new AccessClient(options)
}

class AccessClient implements EtcdAccess {
  readonly #endpoints: EtcdEndpoints
  readonly #caller: EtcdCaller

  constructor({ tls, user, password, ...options }: EtcdStoreOptions) {
    const tracker = new ConnectionTracker(options.clock, false)
    const onMove = (): void => undefined
    const spreadMs = (): number => 0
    this.#endpoints = new EtcdEndpoints({ ...options, tls, tracker, onMove, spreadMs })
    this.#caller = new EtcdCaller({ ...options, user, password, endpoints: this.#endpoints })
  }

  async read(wanted: (name: string) => boolean): Promise<Access> {
    const access: Access = { roles: [], users: [] }
    const { roles } = await this.#read(authMethods.roleList, {})
    for (const name of roles.filter(wanted)) {
      const { perm } = await this.#read(authMethods.roleGet, { role: name })
      access.roles.push({ name, permissions: perm.map(permissionOf) })
    }
    const { users } = await this.#read(authMethods.userList, {})
    for (const name of users.filter(wanted)) {
      access.users.push({ name, roles: (await this.#read(authMethods.userGet, { name })).roles })
    }
    return access
  }

  async apply(step: AccessStep, password?: string): Promise<void> {
    switch (step.kind) {
      case 'add_role':
        return this.#write(authMethods.roleAdd, { name: step.role })
      case 'grant':
        return this.#write(authMethods.roleGrant, { name: step.role, perm: messageOf(step.permission) })
      case 'revoke':
        return this.#write(authMethods.roleRevoke, { role: step.role, ...rangeOf(step.permission) })
      case 'add_user': {
        const options = { noPassword: password === undefined }
        return this.#write(authMethods.userAdd, { name: step.user, password: password ?? '', options })
      }
      case 'grant_role':
        return this.#write(authMethods.userGrantRole, { user: step.user, role: step.role })
      case 'delete_user':
        return this.#write(authMethods.userDelete, { name: step.user })
      case 'delete_role':
        return this.#write(authMethods.roleDelete, { role: step.role })
      case 'enable':
        return this.#write(authMethods.enable, {})
    }
  }

  close(): void {
    this.#endpoints.close()
  }

  #read<Request, Result extends Answer>(method: Method<Request, Result>, request: Request): Promise<Result> {
    return this.#caller.call(method, request, { repeatable: true })
  }

  async #write<Request>(method: Method<Request, Answer>, request: Request): Promise<void> {
    await this.#caller.call(method, request, { repeatable: false })
  }
}

const kinds = { READ: 'read', WRITE: 'write', READWRITE: 'readwrite' } as const
const types = { read: 'READ', write: 'WRITE', readwrite: 'READWRITE' } as const

function permissionOf({ permType, key, rangeEnd }: PermissionMessage): Permission {
  return {
    kind: kinds[permType],
    key: key.toString(),
    rangeEnd: rangeEnd.length === 0 ? undefined : rangeEnd.toString(),
  }
}

function messageOf(permission: Permission): PermissionMessage {
  return { permType: types[permission.kind], ...rangeOf(permission) }
}

function rangeOf({ key, rangeEnd }: Permission): { key: Buffer; rangeEnd: Buffer } {
  return { key: Buffer.from(key), rangeEnd: Buffer.from(rangeEnd ?? '') }
}
