import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Made, Operations } from '../topology/intent-change.ts'
import { addNode, removeNode, setNodeState, setNodeWeight } from '../topology/operations.ts'
import type { NodeState } from '../topology/types.ts'
import { waitUntilEmpty } from './applied.ts'
import { addChangeOptions, makeChange, reportChange } from './change-command.ts'
import { addClusterOptions, type ClusterAccess, clusterAccess, withStore } from './cluster-command.ts'
import { topologyOfAdmin } from './cluster-view.ts'
import { listNodes } from './node-list.ts'
import { CommandError, type CommandIo, counted, formatElapsed } from './output.ts'
import { readAddress, readDuration } from './settings.ts'

/** Adds `node list`, `add`, `remove`, `drain`, `resume`, `maintenance` and `weight`. */
export function addNodeCommands(program: Command, io: CommandIo): void {
  const node = program.command('node').description('see and change the nodes of the cluster')
  addClusterOptions(node.command('list').description('list the nodes, and what is wanted of them'))
    .addHelpText('after', '\nExample:\n  pgherd node list --json')
    .action(async (_options: object, command: Command) => {
      const access = clusterAccess(io, command, ['store', 'admin'])
      await withStore(access, store => listNodes(io, access, store))
    })
  addAdd(node, io)
  addRemove(node, io)
  addStateChange(node, io, {
    name: 'drain',
    state: 'drain',
    description: 'send no new sessions to a node, and move or end those that it has',
    done: 'takes nothing new',
  })
  addStateChange(node, io, {
    name: 'maintenance',
    state: 'maintenance',
    description: 'like drain, and tell everyone that the node is being worked on',
    done: 'is in maintenance and takes nothing new',
  })
  addStateChange(node, io, {
    name: 'resume',
    state: 'active',
    description: 'use a node again after drain or maintenance',
    done: 'is active',
  })
  addWeight(node, io)
}

interface AddOptions {
  weight: number
  zone?: string
  priority: number
  tag?: Record<string, string>
  /** False after `--no-check`. */
  check: boolean
}

function addAdd(node: Command, io: CommandIo): void {
  const command = node.command('add').description('declare a node')
  command
    .argument('<name>', 'its name')
    .argument('<address>', 'where its PostgreSQL listens, HOST[:PORT]', readAddress)
    .option('--weight <number>', 'share of the load among equals; 0 takes no new sessions', readShare, 1)
    .option('--zone <zone>', 'where it stands; near nodes are preferred')
    .option(
      '--priority <number>',
      'preference at a failover that pgherd manages, not built yet',
      readShare,
      1,
    )
    .option('--tag <key=value>', 'a free label; may be repeated', collectTag)
    .option('--no-check', 'do not ask the server whether it belongs to the cluster')
  addChangeOptions(command)
    .addHelpText('after', '\nExample:\n  pgherd node add c 10.0.0.3 --zone east --tag disk=ssd')
    .action(async (name: string, address: { host: string; port: number }, options: AddOptions) => {
      const access = clusterAccess(io, command, ['store', 'admin', 'probe'])
      const { weight, zone = '', priority, tag: tags = {} } = options
      const intent = { ...address, weight, zone, priority, state: 'active', tags } as const
      await change(io, command, access, { name, done: 'is added' }, async at => {
        const systemId = options.check ? await askSystemId(access, address) : undefined
        return addNode(at, name, intent, systemId)
      })
    })
}

/** Asks the server itself which cluster it belongs to. */
async function askSystemId(
  { config }: ClusterAccess,
  { host, port }: { host: string; port: number },
): Promise<string> {
  const { askOnce } = await import('./ask-server.ts')
  const { facts, failure } = await askOnce(config.probe, host, port)
  if (facts) return facts.systemId
  throw new CommandError('failed', `the server could not be asked who it is: ${failure.reason}`, {
    hint: 'start it or set probe.user and probe.password, or add the node unseen with --no-check',
  })
}

function addRemove(node: Command, io: CommandIo): void {
  const command = node.command('remove').description('take a node out of the cluster').argument('<name>')
  addChangeOptions(command)
    .addHelpText('after', '\nExample:\n  pgherd node remove c')
    .action(async (name: string) => {
      const access = clusterAccess(io, command, ['store', 'admin'])
      await change(io, command, access, { name, done: 'is removed' }, async at => {
        await refuseSeenPrimary(access, name, 'promote another node first')
        return removeNode(at, name)
      })
    })
}

interface StateChange {
  name: string
  state: NodeState
  description: string
  done: string
}

function addStateChange(node: Command, io: CommandIo, { name, state, description, done }: StateChange): void {
  const command = node.command(name).description(description).argument('<name>')
  const empties = state !== 'active'
  if (empties) {
    command
      .option('--force', 'also the primary: writes wait until it is resumed')
      .addOption(
        new Option('--wait [duration]', 'wait until no session is left on it, a minute unless said')
          .argParser(readDuration)
          .preset('60s'),
      )
  }
  addChangeOptions(command)
    .addHelpText('after', `\nExample:\n  pgherd node ${name} b`)
    .action(async (node: string, options: { force?: true; wait?: number | false }) => {
      const access = clusterAccess(io, command, ['store', 'admin'])
      const force = options.force === true
      const empty = empties ? { waitMs: options.wait || undefined } : undefined
      await change(io, command, access, { name: node, done, empty }, async at => {
        if (empties && !force) {
          await refuseSeenPrimary(access, node, 'promote another node first, or say --force')
        }
        return setNodeState(at, node, state, force)
      })
    })
}

function addWeight(node: Command, io: CommandIo): void {
  const command = node
    .command('weight')
    .description('change the share of the load that a node takes')
    .argument('<name>')
    .argument('<weight>', 'among equals; 0 takes no new sessions', readShare)
  addChangeOptions(command)
    .addHelpText('after', '\nExample:\n  pgherd node weight b 3')
    .action(async (name: string, weight: number) => {
      const access = clusterAccess(io, command, ['store', 'admin'])
      const done = `has the weight ${weight}`
      await change(io, command, access, { name, done }, at => setNodeWeight(at, name, weight))
    })
}

interface Change {
  /** Of the node. */
  name: string
  /** What is true of it afterwards. */
  done: string
  /** Set where its sessions are to go; then until when that is waited for, if it is asked for. */
  empty?: { waitMs: number | undefined } | undefined
}

/** How long to look for the sessions of a node that empties where nobody asked to wait. */
const emptyLookMs = 1500

/** Makes a change and waits until every proxy has it, and where the node is to be empty, until it is. */
async function change(
  io: CommandIo,
  command: Command,
  access: ClusterAccess,
  { name, done, empty }: Change,
  make: (at: Operations) => Promise<Made>,
): Promise<void> {
  const { cluster } = access.config
  const finished = await makeChange(command, access, make, async (store, { by, notBy }) => {
    if (!empty || notBy.length > 0 || by.length === 0) return undefined
    return waitUntilEmpty(store, cluster, name, empty.waitMs ?? emptyLookMs)
  })
  const { applied, followed: sessions } = finished
  const json = { node: name, ...(empty && { sessions: sessions ?? null }) }
  const left = sessions === undefined ? '' : `; ${sessionsLeft(sessions)}`
  reportChange(io, access, finished, { done: `${name} ${done}`, json }, left)
  if (empty?.waitMs !== undefined && applied && applied.by.length > 0)
    checkEmpty(name, sessions, empty.waitMs)
}

function sessionsLeft(sessions: number): string {
  if (sessions === 0) return 'no session is left on it'
  if (sessions === 1) return '1 session remains: it ends with its transaction, or after drain_timeout'
  return `${counted(sessions, 'session')} remain: they end with their transactions, or after drain_timeout`
}

function checkEmpty(name: string, sessions: number | undefined, waitMs: number): void {
  if (sessions === 0) return
  const left = sessions === undefined ? 'an unknown number of sessions' : counted(sessions, 'session')
  throw new CommandError('failed', `${name} still has ${left} after ${formatElapsed(waitMs)}`, {
    hint: 'the change stands; wait longer with --wait, or see who they are in pg_stat_activity of the server',
  })
}

/** Where no agent reports, only a proxy knows by its own probe who the primary is. */
export async function refuseSeenPrimary(access: ClusterAccess, name: string, hint: string): Promise<void> {
  const topology = await topologyOfAdmin(access)
  const node = topology?.nodes.find(each => each.name === name)
  if (topology?.primary !== name || !node?.accepting || node.state !== 'active') return
  throw new CommandError('failed', `node ${name} is the primary: without it, writes wait`, { hint })
}

function readShare(text: string): number {
  const value = Number(text)
  if (/^\d{1,4}$/.test(text) && value <= 1000) return value
  throw new InvalidArgumentError('Expected a whole number from 0 to 1000.')
}

function collectTag(text: string, before: Record<string, string> | undefined): Record<string, string> {
  const [, key, value] = /^([^=]+)=(.*)$/.exec(text) ?? []
  if (key === undefined || value === undefined) throw new InvalidArgumentError('Expected KEY=VALUE.')
  return { ...before, [key]: value }
}
