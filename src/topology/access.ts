import { type Access, only, type Permission, type Role, under } from '../store/access.ts'
import { type Keys, keysOf } from './keys.ts'

/** Somebody who works with a cluster's keys, each with a user and a role of its own in etcd. */
export type Identity =
  | { kind: 'agent'; name: string }
  | { kind: 'proxy'; name: string }
  /** A person or a pipeline; those without a name share one user. */
  | { kind: 'operator'; name?: string | undefined }

export interface AccessOptions {
  /** Agents elect the primary: they may write the leader key. */
  managed: boolean
}

/**
 * The etcd user of an identity, which is also what a client certificate must have as common name: `pgherd.agent.a@demo`.
 * `@` can be in no name of pgherd's own, so that no two identities ever share a user.
 */
export function userName(cluster: string, identity: Identity): string {
  const name = identity.name === undefined ? '' : `.${identity.name}`
  return `pgherd.${identity.kind}${name}@${cluster}`
}

/** The identity that a user of this cluster stands for; undefined when it is none. */
export function identityOf(cluster: string, user: string): Identity | undefined {
  const [, kind, , name] = /^pgherd\.(agent|proxy|operator)(\.([^@]+))?@/.exec(user) ?? []
  if (kind === undefined || !user.endsWith(`@${cluster}`)) return undefined
  const identity = { kind, name } as Identity
  return (kind === 'operator' || name !== undefined) && userName(cluster, identity) === user
    ? identity
    : undefined
}

/** The role of an identity. All operators have one. */
export function roleName(cluster: string, identity: Identity): string {
  return userName(cluster, identity.kind === 'operator' ? { kind: 'operator' } : identity)
}

/**
 * Users and roles with the least that the work takes: everybody reads the cluster; an agent writes the status of its own
 * node, a proxy its own row, an operator the intent.
 */
export function accessOf(cluster: string, identities: readonly Identity[], options: AccessOptions): Access {
  const keys = keysOf(cluster)
  const roles = new Map<string, Role>()
  const users = new Map<string, string>()
  for (const identity of identities) {
    const role = roleName(cluster, identity)
    const permissions = [under('read', keys.root), ...mayWrite(keys, identity, options)]
    roles.set(role, { name: role, permissions })
    users.set(userName(cluster, identity), role)
  }
  return {
    roles: [...roles.values()],
    users: [...users].map(([name, role]) => ({ name, roles: [role] })),
  }
}

function mayWrite(keys: Keys, identity: Identity, { managed }: AccessOptions): Permission[] {
  switch (identity.kind) {
    case 'agent':
      return [only('write', keys.nodeStatus(identity.name)), ...(managed ? [only('write', keys.leader)] : [])]
    case 'proxy':
      return [only('write', keys.proxyStatus(identity.name))]
    case 'operator':
      return [under('write', keys.intent)]
    default:
      return identity satisfies never
  }
}
