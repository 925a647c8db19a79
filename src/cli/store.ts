import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { silentLogger } from '../runtime/log.ts'
import { type AccessStep, describeStep } from '../store/access.ts'
import type { Entry, Store } from '../store/store.ts'
import { accessOf } from '../topology/access.ts'
import { encode } from '../topology/codec.ts'
import { keysOf } from '../topology/keys.ts'
import { adminTurnedOff, NoAnswer } from './admin-client.ts'
import { addClusterOptions, type ClusterAccess, clusterAccess, withStore } from './cluster-command.ts'
import { openStore } from './open-store.ts'
import { operationsBy, operatorName } from './operations.ts'
import { CommandError, type CommandIo, painter, printable, printJson } from './output.ts'
import { declareConfigured } from './seed.ts'
import { collectNode, type NodeArgument } from './settings.ts'
import {
  type AccessWork,
  addUserCommands,
  etcdOnly,
  grantAccess,
  printAccess,
  printDone,
  readIdentity,
  withAccess,
} from './store-users.ts'

/** Adds `store init`, `store dump` and `store user`. */
export function addStoreCommands(program: Command, io: CommandIo): void {
  const store = program.command('store').description('prepare the store, and see what it holds')
  addInit(store, io)
  addDump(store, io)
  addUserCommands(store, io)
}

interface InitOptions {
  node?: NodeArgument[]
  passwords?: string
  certificates?: true
  agent?: string[]
  proxy?: string[]
  managed?: true
  enableAuth?: true
  printEtcdctl?: true
}

function addInit(store: Command, io: CommandIo): void {
  const command = store
    .command('init')
    .description('see that the store can be reached, and write the first keys')
  addClusterOptions(
    command
      .option(
        '--node <address>',
        'a node to declare, HOST[:PORT] or NAME=HOST[:PORT]; may be repeated',
        collectNode,
      )
      .option('--passwords <folder>', 'make etcd users and roles; a password file for each is in this folder')
      .option('--certificates', 'make etcd users and roles, for client certificates instead of passwords')
      .option('--agent <name>', 'a further agent that is to have a user; may be repeated', collect)
      .option('--proxy <id>', 'a proxy that is to have a user; may be repeated', collect)
      .option('--managed', 'agents may write the leader key as well')
      .option('--enable-auth', 'also make the user root, and turn the authentication of etcd on')
      .option('--print-etcdctl', 'print the commands of etcdctl for the users, and do nothing'),
  )
    .addHelpText(
      'after',
      `
May be repeated: what is there already stays as it is. Users are made for the agents of all nodes that are declared
here, for the proxies named, and for one operator, each with a role that may do what its work takes.
With --enable-auth nobody gets in without a user any more, whoever else uses this etcd included.

Example:
  pgherd store init --etcd 10.0.0.7:2379 --node a=10.0.0.1 --node b=10.0.0.2
  pgherd store init --etcd 10.0.0.7:2379 --node a=10.0.0.1 --proxy p1 --passwords /etc/pgherd/etcd --enable-auth`,
    )
    .action(async (options: InitOptions) => {
      const overrides = options.node && { nodes: { value: options.node, flag: '--node' } }
      const access = clusterAccess(io, command, ['store', 'admin'], overrides)
      const work = accessWork(access, options)
      if (work && options.printEtcdctl) return printAccess(io, work)
      const written = await withAnyStore(access, true, store => init(access, store))
      const steps = work ? await withAccess(access, etcd => grantAccess(io, etcd, work)) : undefined
      report(io, access, written, steps)
    })
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value]
}

/** The users and roles that are asked for; undefined when none are. */
function accessWork(access: ClusterAccess, options: InitOptions): AccessWork | undefined {
  const { passwords, certificates, agent = [], proxy = [], managed, enableAuth, printEtcdctl } = options
  const { cluster, nodes } = access.config
  if (passwords === undefined && !certificates) {
    if (agent.length + proxy.length === 0 && !managed && !enableAuth && !printEtcdctl) return undefined
    throw new CommandError('usage', 'it is not said how the users are to prove who they are', {
      hint: 'name a folder for their passwords with --passwords, or say --certificates',
    })
  }
  etcdOnly(access)
  const agents = new Set([...nodes.map(({ name }) => name), ...agent])
  const identities = [
    readIdentity('operator', undefined),
    ...[...agents].map(name => readIdentity('agent', name)),
    ...proxy.map(id => readIdentity('proxy', id)),
  ]
  return {
    wanted: accessOf(cluster, identities, { managed: managed === true }),
    source: passwords === undefined ? { kind: 'certificates' } : { kind: 'folder', path: passwords },
    enable: enableAuth === true,
  }
}

interface Written {
  kind: string
  keys: { what: string; made: boolean }[]
}

/** Writes the first keys of the cluster, where they are not there yet. */
async function init({ config }: ClusterAccess, store: Store): Promise<Written> {
  const { cluster, nodes } = config
  const key = keysOf(cluster).settings
  const settings = await store.transact({
    compares: [{ key, target: 'modified', revision: 0 }],
    writes: [{ kind: 'put', key, value: encode({ v: 1 }) }],
  })
  const keys: Written['keys'] = [{ what: 'settings', made: settings.applied }]
  for (const node of nodes) {
    const known = await declareConfigured(operationsBy(operatorName(), store, cluster), node)
    keys.push({ what: `node ${node.name} at ${node.host}:${node.port}`, made: known === undefined })
    if (!known || (known.host === node.host && known.port === node.port)) continue
    throw new CommandError('failed', `node ${node.name} is there already, at ${known.host}:${known.port}`, {
      hint: `take another name, or pgherd node remove ${node.name} first`,
    })
  }
  return { kind: store.kind, keys }
}

function report(
  io: CommandIo,
  { config, json }: ClusterAccess,
  { kind, keys }: Written,
  steps: AccessStep[] | undefined,
): void {
  if (json) {
    const written = keys.filter(({ made }) => made).map(({ what }) => what)
    const access = steps && { access: steps.map(describeStep) }
    printJson(io, { cluster: config.cluster, store: kind, written, ...access })
    return
  }
  io.stdout(`the ${kind} store can be reached\n`)
  for (const { what, made } of keys) io.stdout(`${what}: ${made ? 'written' : 'there already'}\n`)
  if (steps) printDone(io, steps)
}

function addDump(store: Command, io: CommandIo): void {
  const command = store
    .command('dump')
    .description('print the keys of the cluster, with revisions and leases')
  addClusterOptions(command.option('--prefix <prefix>', 'only keys that begin so, such as intent/', ''))
    .addHelpText('after', '\nExample:\n  pgherd store dump --prefix status/')
    .action(async (options: { prefix: string }) => {
      const access = clusterAccess(io, command, ['store', 'admin'])
      await withAnyStore(access, false, store => dump(io, access, store, options.prefix))
    })
}

async function dump(io: CommandIo, access: ClusterAccess, store: Store, prefix: string): Promise<void> {
  const { root } = keysOf(access.config.cluster)
  const { entries, revision } = await store.list(prefix.startsWith('/') ? prefix : root + prefix)
  if (access.json) {
    const shown = entries.map(entry => ({ ...entry, value: jsonOf(entry), leaseId: entry.leaseId ?? null }))
    printJson(io, { revision, entries: shown })
    return
  }
  const paint = painter(io.colour)
  for (const entry of entries) {
    const lease = entry.leaseId === undefined ? '' : `, lease ${entry.leaseId}`
    io.stdout(`${paint.bold(printable(entry.key))}  ${paint.dim(`revision ${entry.modRevision}${lease}`)}\n`)
    const value = JSON.stringify(jsonOf(entry), null, 2)
    io.stdout(`${value.replace(/^/gm, '  ')}\n`)
  }
  if (entries.length === 0) io.stderr('there are no such keys\n')
}

/** Values are JSON; anything else is shown as the text that it is. */
function jsonOf({ value }: Entry): unknown {
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}

/**
 * The store of a running pgherd or etcd; where nobody answers, the folder of the embedded store itself, which is
 * made when `make` says so.
 */
async function withAnyStore<T>(
  access: ClusterAccess,
  make: boolean,
  work: (store: Store) => Promise<T>,
): Promise<T> {
  const { config, admin, adminNamed } = access
  if (config.store.kind === 'etcd') return withStore(access, work)
  const { path } = config.store
  const hasFolder = path !== ':memory:' && (make || existsSync(path))
  if (admin) {
    try {
      return await withStore(access, work)
    } catch (error) {
      if (!(error instanceof NoAnswer) || !hasFolder || adminNamed) throw error
    }
  } else if (!hasFolder) throw adminTurnedOff()
  const { store } = await openStore(config, silentLogger)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}
