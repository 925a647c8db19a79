import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { silentLogger } from '../runtime/log.ts'
import type { Entry, Store } from '../store/store.ts'
import { encode } from '../topology/codec.ts'
import { keysOf } from '../topology/keys.ts'
import { adminTurnedOff, NoAnswer } from './admin-client.ts'
import { addClusterOptions, type ClusterAccess, clusterAccess, withStore } from './cluster-command.ts'
import { openStore } from './open-store.ts'
import { operationsBy, operatorName } from './operations.ts'
import { CommandError, type CommandIo, painter, printable, printJson } from './output.ts'
import { declareConfigured } from './seed.ts'
import { collectNode, type NodeArgument } from './settings.ts'

/** Adds `store init` and `store dump`. */
export function addStoreCommands(program: Command, io: CommandIo): void {
  const store = program.command('store').description('prepare the store, and see what it holds')
  addInit(store, io)
  addDump(store, io)
}

function addInit(store: Command, io: CommandIo): void {
  const command = store
    .command('init')
    .description('see that the store can be reached, and write the first keys')
  addClusterOptions(
    command.option(
      '--node <address>',
      'a node to declare, HOST[:PORT] or NAME=HOST[:PORT]; may be repeated',
      collectNode,
    ),
  )
    .addHelpText(
      'after',
      `
May be repeated: what is there already stays as it is.

Example:
  pgherd store init --etcd 10.0.0.7:2379 --node a=10.0.0.1 --node b=10.0.0.2`,
    )
    .action(async (options: { node?: NodeArgument[] }) => {
      const overrides = options.node && { nodes: { value: options.node, flag: '--node' } }
      const access = clusterAccess(io, command, ['store', 'admin'], overrides)
      await withAnyStore(access, true, store => init(io, access, store))
    })
}

async function init(io: CommandIo, { config, json }: ClusterAccess, store: Store): Promise<void> {
  const { cluster, nodes } = config
  const key = keysOf(cluster).settings
  const settings = await store.transact({
    compares: [{ key, target: 'modified', revision: 0 }],
    writes: [{ kind: 'put', key, value: encode({ v: 1 }) }],
  })
  const done: { what: string; made: boolean }[] = [{ what: 'settings', made: settings.applied }]
  for (const node of nodes) {
    const known = await declareConfigured(operationsBy(operatorName(), store, cluster), node)
    done.push({ what: `node ${node.name} at ${node.host}:${node.port}`, made: known === undefined })
    if (!known || (known.host === node.host && known.port === node.port)) continue
    throw new CommandError('failed', `node ${node.name} is there already, at ${known.host}:${known.port}`, {
      hint: `take another name, or pgherd node remove ${node.name} first`,
    })
  }
  if (json) {
    const written = done.filter(({ made }) => made).map(({ what }) => what)
    printJson(io, { cluster, store: store.kind, written })
    return
  }
  io.stdout(`the ${store.kind} store can be reached\n`)
  for (const { what, made } of done) io.stdout(`${what}: ${made ? 'written' : 'there already'}\n`)
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
