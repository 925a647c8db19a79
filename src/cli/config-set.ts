import { type Command, InvalidArgumentError } from 'commander'
import { emptyFleet, fleetKeyOf, isFleetField, strangerFinding } from '../config/fleet.ts'
import { type FleetChange, fleetField, isFleetValue, ownOrigin } from '../config/fleet-changes.ts'
import type { Field } from '../config/keys.ts'
import type { Config } from '../config/schema.ts'
import { originText } from '../config/show.ts'
import { writtenValue } from '../config/values.ts'
import { readIntent, snapshotAt } from '../topology/intent.ts'
import { changeSettings, rollback } from '../topology/operations.ts'
import { addChangeOptions, makeChange, reportChange, withProblems } from './change-command.ts'
import { type ClusterAccess, clusterAccess, withStore } from './cluster-command.ts'
import { refuseSeenPrimary } from './node.ts'
import { CommandError, type CommandIo, printWarning } from './output.ts'

/** Adds `config set`, `config unset` and `config rollback`. */
export function addSetCommands(config: Command, io: CommandIo): void {
  addSet(config, io)
  addUnset(config, io)
  addRollback(config, io)
}

interface BaseOption {
  base?: number
}

function addSet(config: Command, io: CommandIo): void {
  const command = config
    .command('set')
    .description('set settings of the whole fleet, all or none')
    .argument('<key=value...>', 'such as proxy.query_wait_timeout=30s')
  addChangeOptions(withBase(command))
    .addHelpText(
      'after',
      `
They count on every proxy whose own file, environment and flags say nothing of them.

Example:
  pgherd config set proxy.default_pool_size=50 --reason "new servers"
  pgherd config set proxy.databases.app.pool_size=20 proxy.users.report.query_timeout=5m`,
    )
    .action(async (assignments: string[], options: BaseOption) => {
      const changes = readAssignments(assignments)
      const what = `config set ${changes.map(({ key, text }) => `${key}=${text}`).join(' ')}`
      await changeFleetSettings(io, command, { what, changes, base: options.base })
    })
}

function addUnset(config: Command, io: CommandIo): void {
  const command = config
    .command('unset')
    .description('take settings of the whole fleet out: the defaults count again')
    .argument('<key...>', 'such as proxy.query_wait_timeout')
  addChangeOptions(withBase(command))
    .addHelpText('after', '\nExample:\n  pgherd config unset proxy.default_pool_size')
    .action(async (keys: string[], options: BaseOption) => {
      const what = `config unset ${keys.join(' ')}`
      await unsetFleetSettings(io, command, { what, keys, base: options.base })
    })
}

function withBase(command: Command): Command {
  return command.option('--base <change>', 'not if settings were changed after this change', readChange)
}

interface SettingsChange {
  what: string
  changes: FleetChange[]
  base: number | undefined
}

async function unsetFleetSettings(
  io: CommandIo,
  command: Command,
  { what, keys, base }: { what: string; keys: string[]; base: number | undefined },
): Promise<void> {
  const access = clusterAccess(io, command, ['store', 'admin'])
  const changes = keys.map(key => ({ key, text: undefined }))
  let absent: string[] = []
  const finished = await withProblems(io, () =>
    makeChange(command, access, async at => {
      const { values } = await readIntent(at.store, at.cluster)
      absent = keys.filter(key => !isFleetValue(values, key))
      return changeSettings(at, shortened(what), changes, base)
    }),
  )
  const taken = keys.filter(key => !absent.includes(key))
  const done = [
    ...(taken.length > 0 ? [`${taken.join(', ')} ${taken.length === 1 ? 'is' : 'are'} not set`] : []),
    ...(absent.length > 0
      ? [`${absent.join(', ')} ${absent.length === 1 ? 'was' : 'were'} not set for the fleet`]
      : []),
  ].join('; ')
  reportChange(io, access, finished, { done, json: { settings: keys }, keys: settingsOf(keys) })
  for (const key of absent) {
    const origin = ownOrigin(access.config, access.origins, key)
    if (origin)
      printWarning(io, `${key} is set by ${originText(origin)}, not for the fleet`, 'change it there')
  }
}

/** The settings of the fleet that the keys are, or lead into. */
function settingsOf(keys: readonly string[]): string[] {
  return [...new Set(keys.map(key => fleetKeyOf(key.split('.')) ?? key))]
}

async function changeFleetSettings(
  io: CommandIo,
  command: Command,
  { what, changes, base }: SettingsChange,
): Promise<void> {
  const access = clusterAccess(io, command, ['store', 'admin'])
  const finished = await withProblems(io, () =>
    makeChange(command, access, at => changeSettings(at, shortened(what), changes, base)),
  )
  const keys = changes.map(({ key }) => key)
  const done = `${keys.join(', ')} ${keys.length === 1 ? 'is' : 'are'} set`
  reportChange(io, access, finished, { done, json: { settings: keys }, keys: settingsOf(keys) })
}

/** Longest description of a change in the history, in characters; its values stand there besides. */
const whatLengthMax = 500

function shortened(what: string): string {
  return what.length > whatLengthMax ? `${what.slice(0, whatLengthMax)}…` : what
}

function addRollback(config: Command, io: CommandIo): void {
  const command = config
    .command('rollback')
    .description('make nodes and settings what they were after a change, by a new change')
    .argument('<change>', 'its number in pgherd config history', readChange)
    .option('--force', 'also where writes wait for it')
  addChangeOptions(command)
    .addHelpText(
      'after',
      `
The numbers are those of pgherd config history; pgherd config diff shows what would change.

Example:
  pgherd config rollback 12 --reason "the new weights were a mistake"`,
    )
    .action(async (change: number, options: { force?: true }) => {
      const access = clusterAccess(io, command, ['store', 'admin'])
      const force = options.force === true
      const finished = await makeChange(command, access, async at => {
        if (!force) await refuseSeenPrimaries(access, change)
        return rollback(at, change, force)
      })
      const done = `nodes and settings are what they were after change ${change}`
      reportChange(io, access, finished, { done, json: { restored: change } })
    })
}

/** Where no agent reports, only a proxy knows who the primary is. */
async function refuseSeenPrimaries(access: ClusterAccess, change: number): Promise<void> {
  const { cluster } = access.config
  const intent = await withStore(access, store => readIntent(store, cluster))
  const snapshot = snapshotAt(intent, change)
  if (!snapshot) return
  for (const name of intent.nodes.keys()) {
    const node = snapshot.nodes.get(name)
    if (node?.state === 'active' || (!node && intent.statuses.has(name))) continue
    await refuseSeenPrimary(access, name, 'promote another node first, or say --force')
  }
}

function readAssignments(texts: readonly string[]): FleetChange[] {
  return texts.map((text, index) => {
    const cut = text.indexOf('=')
    if (cut <= 0) throw notAnAssignment(text, texts[index + 1])
    return { key: text.slice(0, cut).trim(), text: text.slice(cut + 1).trim() }
  })
}

/** `next`: what stands behind it, which may be meant as its value. */
function notAnAssignment(text: string, next: string | undefined): CommandError {
  if (text.startsWith('=')) {
    return new CommandError('usage', `\`${text}\` has no key`, {
      hint: 'write KEY=VALUE, as in proxy.query_wait_timeout=30s',
    })
  }
  const field = fleetField(text)
  if (!field) {
    const { message, hint } = strangerFinding(text)!
    return new CommandError('usage', `\`${text}\` ${message}`, hint === undefined ? {} : { hint })
  }
  const value = next !== undefined && !next.includes('=') ? next : usualValue(field)
  const example = value === undefined ? `${text}=VALUE` : `${text}=${value}`
  return new CommandError('usage', `\`${text}\` has no value`, {
    hint: `write ${example}; it must be ${field.meta.expected}`,
  })
}

/** The default, as it is written; undefined for what has none, and for what is no single value. */
function usualValue(field: Field): string | number | undefined {
  const value = isFleetField(field) ? writtenValue(field, emptyFleet.config as Config) : undefined
  return typeof value === 'string' || typeof value === 'number' ? value : undefined
}

/** Reads the number of a change. */
export function readChange(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('Expected the number of a change, as in pgherd config history.')
}
