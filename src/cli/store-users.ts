import { Argument, type Command } from 'commander'
import { namePattern } from '../config/names.ts'
import {
  type Access,
  type AccessStep,
  accessSteps,
  describeStep,
  etcdctlCommand,
  type Permission,
  rootRole,
} from '../store/access.ts'
import type { EtcdAccess } from '../store/etcd-access.ts'
import { StoreError } from '../store/store.ts'
import { accessOf, type Identity, identityOf, roleName, userName } from '../topology/access.ts'
import { addClusterOptions, type ClusterAccess, clusterAccess } from './cluster-command.ts'
import { newPassword, type PasswordSource, proofOf } from './new-passwords.ts'
import { openAccess } from './open-store.ts'
import { CommandError, type CommandIo, printable, printJson, table } from './output.ts'

/** Adds `store user add`, `remove` and `list`. */
export function addUserCommands(store: Command, io: CommandIo): void {
  const user = store.command('user').description('see and change who may do what in etcd')
  addAdd(user, io)
  addRemove(user, io)
  addList(user, io)
}

const kindArgument = new Argument('<kind>', 'what the user is').choices(['agent', 'proxy', 'operator'])
const nameArgument = new Argument('[name]', 'node of the agent, id of the proxy, name of the operator')

interface AddOptions {
  passwordFile?: string
  certificate?: true
  managed?: true
  printEtcdctl?: true
}

function addAdd(user: Command, io: CommandIo): void {
  const command = user
    .command('add')
    .description('make an etcd user that may do what its work takes, and no more')
    .addArgument(kindArgument)
    .addArgument(nameArgument)
    .option('--password-file <file>', 'file with its password; else PGHERD_NEW_PASSWORD, or you are asked')
    .option('--certificate', 'no password: a client certificate with its name as common name')
    .option('--managed', 'an agent that may write the leader key as well')
    .option('--print-etcdctl', 'print the commands of etcdctl that do the same, and do nothing')
  addClusterOptions(command)
    .addHelpText(
      'after',
      `
What is there already stays as it is, passwords too. The user of this command needs the role root of etcd.

Example:
  pgherd store user add agent c --password-file /etc/pgherd/etcd.password`,
    )
    .action(async (kind: Identity['kind'], name: string | undefined, options: AddOptions) => {
      const access = etcdOnly(clusterAccess(io, command, ['store', 'admin']))
      const source: PasswordSource = options.certificate
        ? { kind: 'certificates' }
        : options.passwordFile === undefined
          ? { kind: 'ask' }
          : { kind: 'file', path: options.passwordFile }
      const identity = readIdentity(kind, name)
      const wanted = accessOf(access.config.cluster, [identity], { managed: options.managed === true })
      if (options.printEtcdctl) return printSteps(io, accessSteps(wanted, nothing), source)
      await withAccess(access, async etcd => {
        report(io, access, await grantAccess(io, etcd, { wanted, source, enable: false }))
      })
    })
}

function addRemove(user: Command, io: CommandIo): void {
  const command = user
    .command('remove')
    .description('remove an etcd user that pgherd has made, and its role')
    .addArgument(kindArgument)
    .addArgument(nameArgument)
    .option('--print-etcdctl', 'print the commands of etcdctl that do the same, and do nothing')
  addClusterOptions(command)
    .addHelpText('after', '\nExample:\n  pgherd store user remove agent c')
    .action(async (kind: Identity['kind'], name: string | undefined, options: { printEtcdctl?: true }) => {
      const access = etcdOnly(clusterAccess(io, command, ['store', 'admin']))
      const { cluster } = access.config
      const identity = readIdentity(kind, name)
      const [user, role] = [userName(cluster, identity), roleName(cluster, identity)]
      const steps: AccessStep[] = [{ kind: 'delete_user', user }]
      // Operators share theirs.
      if (kind !== 'operator') steps.push({ kind: 'delete_role', role })
      if (options.printEtcdctl) return printSteps(io, steps, { kind: 'certificates' })
      await withAccess(access, async etcd => {
        const { users, roles } = await etcd.read(each => each === user || each === role)
        const due = steps.filter(step => (step.kind === 'delete_user' ? users : roles).length > 0)
        if (due.length === 0) throw new CommandError('failed', `there is no etcd user ${user}`)
        for (const step of due) await etcd.apply(step)
        report(io, access, due)
      })
    })
}

function addList(user: Command, io: CommandIo): void {
  const command = user.command('list').description('list the etcd users of the cluster')
  addClusterOptions(command)
    .addHelpText('after', '\nExample:\n  pgherd store user list --json')
    .action(async () => {
      const access = etcdOnly(clusterAccess(io, command, ['store', 'admin']))
      const { cluster } = access.config
      await withAccess(access, async etcd => {
        const { users, roles } = await etcd.read(name => identityOf(cluster, name) !== undefined)
        const rows = users.map(({ name, roles: held }) => ({ user: name, ...rights(held, roles) }))
        if (access.json) return printJson(io, { cluster, users: rows })
        if (rows.length === 0) return io.stderr(`cluster ${cluster} has no users of its own in etcd\n`)
        const columns = [
          { title: 'USER', value: (row: (typeof rows)[number]) => row.user },
          { title: 'READS', value: (row: (typeof rows)[number]) => row.reads.join(' ') || '-' },
          { title: 'WRITES', value: (row: (typeof rows)[number]) => row.writes.join(' ') || '-' },
        ]
        io.stdout(table(columns, rows, { colour: io.colour, width: io.width }))
      })
    })
}

function rights(held: string[], roles: Access['roles']): { reads: string[]; writes: string[] } {
  const permissions = roles.filter(({ name }) => held.includes(name)).flatMap(role => role.permissions)
  const keysFor = (kind: 'read' | 'write'): string[] =>
    permissions.filter(each => each.kind === kind || each.kind === 'readwrite').map(keysOf)
  return { reads: keysFor('read'), writes: keysFor('write') }
}

function keysOf({ key, rangeEnd }: Permission): string {
  return printable(rangeEnd === undefined ? key : `${key}*`)
}

const nothing: Access = { roles: [], users: [] }

export interface AccessWork {
  wanted: Access
  source: PasswordSource
  /** Also makes `root`, and turns authentication on. */
  enable: boolean
}

/** `wanted` with etcd's own user root. */
export function withRoot(wanted: Access): Access {
  return { ...wanted, users: [...wanted.users, { name: rootRole, roles: [rootRole] }] }
}

/** Makes what is missing; gives back what that was. Turning authentication on comes last, and is done every time. */
export async function grantAccess(io: CommandIo, etcd: EtcdAccess, work: AccessWork): Promise<AccessStep[]> {
  const wanted = work.enable ? withRoot(work.wanted) : work.wanted
  const names = new Set([...wanted.roles, ...wanted.users].map(({ name }) => name))
  const steps = accessSteps(wanted, await etcd.read(name => names.has(name)))
  if (work.enable) steps.push({ kind: 'enable' })
  // All of them before anything is done: what is not entered leaves nothing half made.
  const passwords = new Map<string, string | undefined>()
  for (const step of steps) {
    if (step.kind === 'add_user') passwords.set(step.user, await newPassword(io, work.source, step.user))
  }
  for (const step of steps) {
    await etcd.apply(step, step.kind === 'add_user' ? passwords.get(step.user) : undefined)
  }
  return steps
}

/** The commands of etcdctl for all of `work`, whatever is there already. */
export function printAccess(io: CommandIo, { wanted, source, enable }: AccessWork): void {
  const steps = accessSteps(enable ? withRoot(wanted) : wanted, nothing)
  if (enable) steps.push({ kind: 'enable' })
  printSteps(io, steps, source)
}

function printSteps(io: CommandIo, steps: AccessStep[], source: PasswordSource): void {
  for (const step of steps) io.stdout(`${etcdctlCommand(step, user => proofOf(source, user))}\n`)
}

export function printDone(io: CommandIo, steps: AccessStep[]): void {
  for (const step of steps) io.stdout(`${describeStep(step)}\n`)
  if (steps.length === 0) io.stdout('users and roles: there already\n')
}

function report(io: CommandIo, { config, json }: ClusterAccess, steps: AccessStep[]): void {
  if (json) printJson(io, { cluster: config.cluster, done: steps.map(describeStep) })
  else printDone(io, steps)
}

/** Opens the users and roles of etcd for `work`. */
export async function withAccess<T>(
  { config }: ClusterAccess,
  work: (etcd: EtcdAccess) => Promise<T>,
): Promise<T> {
  const etcd = await openAccess(config)
  try {
    return await work(etcd)
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'denied') throw error
    throw new CommandError('failed', error.message, {
      cause: error,
      hint: 'users and roles are for a user with the role root of etcd: set PGHERD_STORE_USER and PGHERD_STORE_PASSWORD_FILE',
    })
  } finally {
    etcd.close()
  }
}

/** @throws CommandError for another store: it has no users */
export function etcdOnly(access: ClusterAccess): ClusterAccess {
  if (access.config.store.kind === 'etcd') return access
  throw new CommandError('usage', 'only etcd has users and roles', {
    hint: 'name its members with --etcd, `store.endpoints` or PGHERD_STORE_ENDPOINTS',
  })
}

/** @throws CommandError when an agent or a proxy has no name, or one that cannot be */
export function readIdentity(kind: Identity['kind'], name: string | undefined): Identity {
  if (name !== undefined && !namePattern.test(name)) {
    throw new CommandError('usage', `"${name}" cannot be a name here`, {
      hint: 'use letters, digits, ".", "_" and "-"',
    })
  }
  if (kind === 'operator') return { kind, name }
  if (name === undefined) {
    throw new CommandError('usage', `${kind === 'agent' ? 'an agent' : 'a proxy'} needs a name`, {
      hint: kind === 'agent' ? 'give the name of its node' : 'give its id, `proxy.id`',
    })
  }
  return { kind, name }
}
