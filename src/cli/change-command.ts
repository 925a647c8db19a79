import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Store } from '../store/store.ts'
import { type Made, OperationError, type Operations } from '../topology/intent-change.ts'
import { SettingsError } from '../topology/operations.ts'
import { type Applied, waitUntilApplied } from './applied.ts'
import { addClusterOptions, type ClusterAccess, withStore } from './cluster-command.ts'
import { problemLines } from './config.ts'
import { operationsBy, operatorName } from './operations.ts'
import { CommandError, type CommandIo, formatElapsed, printable, printJson, printWarning } from './output.ts'
import { readDuration } from './settings.ts'

/** The options of every command that changes the intent. */
export function addChangeOptions(command: Command): Command {
  const timeout = new Option('--timeout <duration>', 'how long to wait for every proxy to apply it')
  return addClusterOptions(
    command
      .option('--reason <text>', 'why, for the history', readReason)
      .addOption(timeout.argParser(readDuration).default(5000, '5s'))
      .option('--no-wait', 'do not wait for the proxies'),
  )
}

/** Every proxy holds the history. */
const reasonLengthMax = 1000

function readReason(text: string): string {
  if (text.length <= reasonLengthMax) return text
  throw new InvalidArgumentError(`Expected at most ${reasonLengthMax} characters.`)
}

interface ChangeOptions {
  reason?: string
  timeout: number
  /** False after `--no-wait`. */
  wait?: boolean | number
}

/** What a change is to its users. */
export interface ChangeReport {
  /** What is true afterwards: `b has the weight 3`. */
  done: string
  /** For `--json`, beside what is said of every change. */
  json: Record<string, unknown>
  /** Settings of the fleet that were changed, of which a proxy may say otherwise itself. */
  keys?: readonly string[]
}

/** How a change has ended. */
export interface Finished {
  made: Made
  /** Undefined where it was not waited for. */
  applied: Applied | undefined
}

/**
 * Makes a change and waits until every proxy has it. `follow` is for what else is to be seen in the store when they
 * have.
 */
export async function makeChange<T = undefined>(
  command: Command,
  access: ClusterAccess,
  make: (at: Operations) => Promise<Made>,
  follow?: (store: Store, applied: Applied) => Promise<T>,
): Promise<Finished & { followed: T | undefined }> {
  const { cluster } = access.config
  const { reason, timeout, wait } = command.opts<ChangeOptions>()
  return withStore(access, async store => {
    const made = await make(operationsBy(operatorName(), store, cluster, reason))
    const applied =
      wait === false ? undefined : await waitUntilApplied(store, cluster, made.revision, timeout)
    const followed = applied && follow ? await follow(store, applied) : undefined
    return { made, applied, followed }
  })
}

/**
 * Tells of a change. One that stands but is not in force everywhere makes the command fail, and names who is missing.
 */
export function reportChange(
  io: CommandIo,
  { json }: ClusterAccess,
  { made, applied }: Finished,
  report: ChangeReport,
  left = '',
): void {
  const own = ownSettings(applied, report.keys ?? [])
  if (json) {
    const { by, notBy, elapsedMs } = applied ?? { by: null, notBy: null, elapsedMs: null }
    const { change, revision, isNew: changed } = made
    const ofProxies = report.keys && { ownSettings: own }
    printJson(io, {
      ...report.json,
      change,
      revision,
      changed,
      appliedBy: by,
      notAppliedBy: notBy,
      elapsedMs,
      ...ofProxies,
    })
  } else if (!isMissing(applied)) io.stdout(`${sentence(made, applied, report)}${left}\n`)
  if (!json) {
    for (const [id, keys] of Object.entries(own)) {
      const message = `proxy ${printable(id)} keeps what its own configuration says: ${keys.join(', ')}`
      printWarning(io, message)
    }
  }
  if (!isMissing(applied)) return
  const { notBy, elapsedMs, isKnown } = applied
  const stands = `${report.done} (change ${made.change}, revision ${made.revision})`
  if (!isKnown) {
    throw new CommandError('failed', `${stands}, but the store could not be asked who has applied it`, {
      hint: 'the change stands; see with pgherd status who has it',
    })
  }
  const message = `${stands}, but not everywhere yet: after ${formatElapsed(elapsedMs)} it was not applied by ${notBy.map(printable).join(', ')}`
  throw new CommandError('failed', message, {
    hint: 'the change stands; see with pgherd status whether those proxies live and reach the store',
  })
}

function isMissing(applied: Applied | undefined): applied is Applied {
  return applied !== undefined && (!applied.isKnown || applied.notBy.length > 0)
}

function sentence(made: Made, applied: Applied | undefined, { done }: ChangeReport): string {
  const number = `${made.isNew ? `change ${made.change}` : 'nothing had to be changed'}, revision ${made.revision}`
  if (!applied) return `${done} (${number}); the proxies were not waited for`
  const { by, elapsedMs } = applied
  if (by.length === 0) return `${done}; no proxy runs that would have to know (${number})`
  const who = by.length === 1 ? '1 proxy has' : `${by.length} proxies have`
  return `${done}; ${who} applied it (${number}, ${formatElapsed(elapsedMs)})`
}

/** Which of the settings count for no other than the fleet, by proxy. */
function ownSettings(applied: Applied | undefined, keys: readonly string[]): Record<string, string[]> {
  const found: Record<string, string[]> = {}
  for (const { id, ownSettings } of applied?.proxies ?? []) {
    const own = keys.filter(key => ownSettings?.includes(key))
    if (own.length > 0) found[id] = own
  }
  return found
}

/** Runs `work`; settings that are wrong are printed as the problems of a configuration file are. */
export async function withProblems<T>(io: CommandIo, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error
    for (const line of problemLines(error.problems, io.stderrColour)) io.stderr(line)
    throw new CommandError('usage', `${error.message}: nothing was changed`, { cause: error })
  }
}

/** Whether somebody else was faster, so that the same change could be made on what that one has left. */
export function isRefused(error: unknown): error is OperationError {
  return error instanceof OperationError && error.code === 'refused'
}
