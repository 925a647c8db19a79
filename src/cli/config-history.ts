import type { Command } from 'commander'
import { oneLine } from '../config/show.ts'
import { type Intent, oldestSnapshot, type Recorded, readIntent, snapshotAt } from '../topology/intent.ts'
import { settingDifferences } from '../topology/intent-change.ts'
import type { NodeIntent } from '../topology/types.ts'
import { addClusterOptions, type ClusterAccess, clusterAccess, withStore } from './cluster-command.ts'
import { readChange } from './config-set.ts'
import { type Column, CommandError, type CommandIo, counted, printable, printJson, table } from './output.ts'

/** Adds `config history` and `config diff`. */
export function addHistoryCommands(config: Command, io: CommandIo): void {
  const history = config
    .command('history')
    .description('who changed what of nodes and settings, when and why, the newest first')
    .option('--limit <number>', 'so many changes', readChange, 20)
  addClusterOptions(history)
    .addHelpText('after', '\nExample:\n  pgherd config history --limit 5')
    .action(async (options: { limit: number }) => {
      const access = clusterAccess(io, history, ['store', 'admin'])
      printHistory(io, access, await intentOf(access), options.limit)
    })
  const diff = config
    .command('diff')
    .description('what differs between two changes; without numbers, what the newest one has changed')
    .argument('[from]', 'number of a change', readChange)
    .argument('[to]', 'number of a later or earlier one; the newest unless said', readChange)
  addClusterOptions(diff)
    .addHelpText('after', '\nExample:\n  pgherd config diff 12')
    .action(async (from: number | undefined, to: number | undefined) => {
      const access = clusterAccess(io, diff, ['store', 'admin'])
      const intent = await intentOf(access)
      printDiff(io, access, intent, from ?? Math.max(intent.change - 1, 0), to ?? intent.change)
    })
}

function intentOf(access: ClusterAccess): Promise<Intent> {
  return withStore(access, store => readIntent(store, access.config.cluster))
}

const columns: Column<Recorded>[] = [
  { title: 'CHANGE', value: ({ change }) => String(change) },
  { title: 'AT', value: ({ entry }) => entry.at.replace('T', ' ').replace(/\.\d+Z$/, 'Z') },
  { title: 'WHO', value: ({ entry }) => entry.who },
  { title: 'WHAT', value: ({ entry }) => entry.what },
  { title: 'WHY', value: ({ entry }) => entry.why ?? '-' },
]

function printHistory(io: CommandIo, { json }: ClusterAccess, intent: Intent, limit: number): void {
  const newest = intent.history.toReversed().slice(0, limit)
  if (json) {
    const changes = newest.map(({ change, revision, entry }) => ({ change, revision, ...entry }))
    printJson(io, { change: intent.change, changes })
  } else if (newest.length > 0) io.stdout(table(columns, newest, { colour: io.colour, width: io.width }))
  else io.stderr('nothing has been changed yet\n')
}

function printDiff(io: CommandIo, { json }: ClusterAccess, intent: Intent, from: number, to: number): void {
  const before = snapshotOf(intent, from)
  const after = snapshotOf(intent, to)
  const settings = settingDifferences(before.values, after.values)
  const names = [...new Set([...before.nodes.keys(), ...after.nodes.keys()])].sort()
  const nodes = Object.fromEntries(
    names.flatMap(name => {
      const pair = { before: before.nodes.get(name) ?? null, after: after.nodes.get(name) ?? null }
      return JSON.stringify(pair.before) === JSON.stringify(pair.after) ? [] : [[name, pair] as const]
    }),
  )
  if (json) return printJson(io, { from, to, settings, nodes })
  const lines = [
    ...Object.entries(settings).map(([key, pair]) => `${key}: ${shown(pair.before)} -> ${shown(pair.after)}`),
    ...Object.entries(nodes).map(
      ([name, pair]) => `node ${name}: ${nodeDifference(pair.before, pair.after)}`,
    ),
  ]
  for (const line of lines) io.stdout(`${printable(line)}\n`)
  if (lines.length === 0) io.stderr(`nothing differs between the changes ${from} and ${to}\n`)
}

function snapshotOf(intent: Intent, change: number): NonNullable<ReturnType<typeof snapshotAt>> {
  const snapshot = snapshotAt(intent, change)
  if (snapshot) return snapshot
  const oldest = oldestSnapshot(intent)
  throw new CommandError('failed', `what was wanted after change ${change} is not known`, {
    hint: `known are ${oldest} to ${intent.change}: the history keeps ${counted(intent.history.length, 'change')}`,
  })
}

/** A setting or a field as it would be written in a file. */
export function shown(value: unknown): string {
  return value === null || value === undefined ? '(not set)' : oneLine(value)
}

function nodeDifference(before: NodeIntent | null, after: NodeIntent | null): string {
  if (!before) return `added, at ${after?.host}:${after?.port}`
  if (!after) return `removed, was at ${before.host}:${before.port}`
  const fields = Object.entries(settingDifferences({ ...before }, { ...after }))
  return fields.map(([field, pair]) => `${field} ${shown(pair.before)} -> ${shown(pair.after)}`).join(', ')
}
