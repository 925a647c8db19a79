/**
 * Who may do what in an etcd cluster, as data: what is wanted, what is there, the steps from one to the other, and
 * the same steps as commands for `etcdctl`. Pure.
 */
export interface Permission {
  kind: 'read' | 'write' | 'readwrite'
  key: string
  /** First key that is no longer meant; undefined: only `key` itself. */
  rangeEnd: string | undefined
}

export interface Role {
  name: string
  permissions: Permission[]
}

export interface User {
  name: string
  roles: string[]
}

export interface Access {
  roles: Role[]
  users: User[]
}

export type AccessStep =
  | { kind: 'add_role'; role: string }
  | { kind: 'grant'; role: string; permission: Permission }
  | { kind: 'revoke'; role: string; permission: Permission }
  | { kind: 'add_user'; user: string }
  | { kind: 'grant_role'; user: string; role: string }
  | { kind: 'delete_user'; user: string }
  | { kind: 'delete_role'; role: string }
  | { kind: 'enable' }

/** The role that etcd itself knows: it may do everything, and need not be made. */
export const rootRole = 'root'

/** The permission for every key that begins with `prefix`, which must end in an ASCII character. */
export function under(kind: Permission['kind'], prefix: string): Permission {
  return { kind, key: prefix, rangeEnd: prefixEnd(prefix) }
}

export function only(kind: Permission['kind'], key: string): Permission {
  return { kind, key, rangeEnd: undefined }
}

/**
 * What makes `wanted` of `actual`. A wanted role ends up with exactly its permissions; a wanted user with at least its
 * roles, because etcd may serve others as well. What is not wanted is not looked at. No steps: nothing is missing.
 */
export function accessSteps(wanted: Access, actual: Access): AccessStep[] {
  const steps: AccessStep[] = []
  for (const { name: role, permissions } of wanted.roles) {
    const known = actual.roles.find(each => each.name === role)
    if (!known) steps.push({ kind: 'add_role', role })
    const has = known?.permissions ?? []
    for (const permission of permissions) {
      const same = has.find(each => isSameRange(each, permission))
      if (same?.kind !== permission.kind) steps.push({ kind: 'grant', role, permission })
    }
    for (const permission of has) {
      if (permissions.some(each => isSameRange(each, permission))) continue
      steps.push({ kind: 'revoke', role, permission })
    }
  }
  for (const { name: user, roles } of wanted.users) {
    const known = actual.users.find(each => each.name === user)
    if (!known) steps.push({ kind: 'add_user', user })
    for (const role of roles) {
      if (!known?.roles.includes(role)) steps.push({ kind: 'grant_role', user, role })
    }
  }
  return steps
}

/** For people: `role pgherd.operator@demo may write keys under /pgherd/demo/intent/`. */
export function describeStep(step: AccessStep): string {
  switch (step.kind) {
    case 'add_role':
      return `role ${step.role}: made`
    case 'grant':
      return `role ${step.role}: may ${step.permission.kind} ${describeRange(step.permission)}`
    case 'revoke':
      return `role ${step.role}: may no longer ${step.permission.kind} ${describeRange(step.permission)}`
    case 'add_user':
      return `user ${step.user}: made`
    case 'grant_role':
      return `user ${step.user}: has the role ${step.role}`
    case 'delete_user':
      return `user ${step.user}: removed`
    case 'delete_role':
      return `role ${step.role}: removed`
    case 'enable':
      return 'authentication: on'
    default:
      return step satisfies never
  }
}

function describeRange({ key, rangeEnd }: Permission): string {
  if (rangeEnd === undefined) return key
  return isPrefix({ key, rangeEnd }) ? `keys under ${key}` : `keys from ${key} up to ${rangeEnd}`
}

/** How a new user of the command will prove who it is. */
export type Proof =
  /** By a client certificate with its name as common name. */
  | { kind: 'certificate' }
  /** By the password in this file. */
  | { kind: 'file'; path: string }
  /** By a password that etcdctl asks for. */
  | { kind: 'ask' }

/** The command of `etcdctl` that does the same, for a POSIX shell. No password is in it. */
export function etcdctlCommand(step: AccessStep, proof: (user: string) => Proof): string {
  switch (step.kind) {
    case 'add_role':
      return `etcdctl role add ${quoted(step.role)}`
    case 'grant': {
      const { kind } = step.permission
      return `etcdctl role grant-permission${rangeArguments(step.role, step.permission, kind)}`
    }
    case 'revoke':
      return `etcdctl role revoke-permission${rangeArguments(step.role, step.permission)}`
    case 'add_user':
      return `etcdctl user add ${quoted(step.user)}${proofArguments(proof(step.user))}`
    case 'grant_role':
      return `etcdctl user grant-role ${quoted(step.user)} ${quoted(step.role)}`
    case 'delete_user':
      return `etcdctl user delete ${quoted(step.user)}`
    case 'delete_role':
      return `etcdctl role delete ${quoted(step.role)}`
    case 'enable':
      return 'etcdctl auth enable'
    default:
      return step satisfies never
  }
}

function rangeArguments(role: string, { key, rangeEnd }: Permission, kind?: string): string {
  const words = [role, ...(kind === undefined ? [] : [kind]), key]
  if (rangeEnd !== undefined && isPrefix({ key, rangeEnd })) {
    return ` --prefix=true ${words.map(quoted).join(' ')}`
  }
  if (rangeEnd !== undefined) words.push(rangeEnd)
  return ` ${words.map(quoted).join(' ')}`
}

function proofArguments(proof: Proof): string {
  if (proof.kind === 'certificate') return ' --no-password'
  return proof.kind === 'file' ? ` --interactive=false < ${quoted(proof.path)}` : ''
}

function quoted(text: string): string {
  return /^[A-Za-z0-9@%+=:,./_-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

function isSameRange(one: Permission, other: Permission): boolean {
  return one.key === other.key && one.rangeEnd === other.rangeEnd
}

function isPrefix({ key, rangeEnd }: { key: string; rangeEnd: string }): boolean {
  return key !== '' && rangeEnd === prefixEnd(key)
}

/** The last character counted up: the first key that does not begin with `prefix`. */
function prefixEnd(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)
}
