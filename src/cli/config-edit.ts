import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { stringify } from 'yaml'
import { nested } from '../config/fleet.ts'
import { readFleetText } from '../config/fleet-changes.ts'
import { formatProblem, type Problem } from '../config/problem.ts'
import { type Intent, readIntent } from '../topology/intent.ts'
import { settingDifferences } from '../topology/intent-change.ts'
import { replaceSettings } from '../topology/operations.ts'
import { addChangeOptions, type Finished, isRefused, makeChange, reportChange } from './change-command.ts'
import { type ClusterAccess, clusterAccess, withStore } from './cluster-command.ts'
import { shown } from './config-history.ts'
import { CommandError, type CommandIo, printable } from './output.ts'

/** Adds `config edit`. */
export function addEditCommand(config: Command, io: CommandIo): void {
  const command = config
    .command('edit')
    .description('edit the settings of the whole fleet as a file, in the editor that VISUAL or EDITOR names')
  addChangeOptions(command)
    .addHelpText(
      'after',
      `
The editor comes again while something in the file is wrong, or when somebody else has changed settings meanwhile.
A file that is left as it came ends it, and nothing is changed.

Example:
  pgherd config edit --reason "smaller pools"`,
    )
    .action(async () => {
      const access = clusterAccess(io, command, ['store', 'admin'])
      const folder = mkdtempSync(join(tmpdir(), 'pgherd-edit-'))
      const session = new EditSession(io, command, access, join(folder, 'settings.yaml'))
      const finished = await session.run()
      rmSync(folder, { recursive: true })
      if (finished) report(io, access, finished)
      else io.stderr('nothing was changed\n')
    })
}

/** A change that was made by editing, with the keys that differ. */
interface Edited extends Finished {
  keys: string[]
}

function report(io: CommandIo, access: ClusterAccess, { keys, ...finished }: Edited): void {
  const done = keys.length === 0 ? 'the settings are as they were' : `${keys.join(', ')} changed`
  reportChange(io, access, finished, { done, json: { settings: keys }, keys })
}

/** One edit, from the first look at the settings until they are written or given up. */
class EditSession {
  readonly #io: CommandIo
  readonly #command: Command
  readonly #access: ClusterAccess
  readonly #file: string

  constructor(io: CommandIo, command: Command, access: ClusterAccess, file: string) {
    this.#io = io
    this.#command = command
    this.#access = access
    this.#file = file
  }

  /** Undefined when it was given up before anything was wrong. A text that was typed in vain stays in its file. */
  async run(): Promise<Edited | undefined> {
    let intent = await this.#read()
    let body = bodyOf(intent.values)
    let notes: string[] = []
    for (;;) {
      const offered = `${headOf(intent, notes)}${body}`
      const text = await this.#edit(offered)
      if (text === offered) return this.#giveUp(notes)
      body = withoutHead(text)
      const result = readFleetText(text, this.#file)
      if (result.problems) {
        notes = this.#notesOf(result.problems)
        continue
      }
      const keys = Object.keys(settingDifferences(intent.values, result.values))
      try {
        return { ...(await this.#write(result.values, intent.change, keys)), keys }
      } catch (error) {
        if (!isRefused(error)) {
          this.#io.stderr(`the text is kept in ${this.#file}\n`)
          throw error
        }
        this.#io.stderr(`${error.message}\n`)
        const before = intent
        intent = await this.#read()
        notes = [
          error.message,
          ...movesOf(before, intent, keys),
          'Take this line out to write what stands below.',
        ]
        body = bodyOf(merged(before, intent, result.values))
      }
    }
  }

  #read(): Promise<Intent> {
    return withStore(this.#access, store => readIntent(store, this.#access.config.cluster))
  }

  #write(values: Record<string, unknown>, base: number, keys: readonly string[]): Promise<Finished> {
    const what = `config edit ${keys.join(' ')}`
    return makeChange(this.#command, this.#access, at => replaceSettings(at, what, values, base))
  }

  #notesOf(problems: readonly Problem[]): string[] {
    for (const problem of problems) this.#io.stderr(`${formatProblem(problem)}\n`)
    return problems.flatMap(({ message, hint }) => (hint ? [message, `  hint: ${hint}`] : [message]))
  }

  async #edit(offered: string): Promise<string> {
    writeFileSync(this.#file, offered, { mode: 0o600 })
    const { env } = this.#io
    const editor = env['VISUAL'] || env['EDITOR'] || 'vi'
    // As git does: the variable may hold arguments.
    const child = spawn('/bin/sh', ['-c', `${editor} "$1"`, 'sh', this.#file], { stdio: 'inherit' })
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
    if (code === 0) return readFileSync(this.#file, 'utf8')
    throw new CommandError('failed', `the editor ended with ${signal ?? `exit code ${code}`}: ${editor}`, {
      hint: `nothing was changed; the text is in ${this.#file}. VISUAL or EDITOR names another editor`,
    })
  }

  #giveUp(notes: readonly string[]): undefined {
    if (notes.length === 0) return undefined
    throw new CommandError('failed', 'the text was left as it was: nothing was changed', {
      hint: `it is kept in ${this.#file}`,
    })
  }
}

const headMark = '# ---'

function headOf({ change }: Intent, notes: readonly string[]): string {
  const lines = [
    `Settings of the whole fleet, as they are after change ${change}; for keys and values see docs/configuration.md.`,
    'They count on every proxy whose own file, environment and flags say nothing of them.',
    ...notes.map(printable),
  ]
  return `${lines.map(line => `# ${line}\n`).join('')}${headMark}\n`
}

function withoutHead(text: string): string {
  const cut = text.indexOf(`${headMark}\n`)
  return cut < 0 ? text : text.slice(cut + headMark.length + 1)
}

function bodyOf(values: Record<string, unknown>): string {
  const entries = Object.entries(values)
  if (entries.length === 0) return '# proxy:\n#   query_wait_timeout: 30s\n'
  return stringify(nested(entries), { lineWidth: 0 })
}

/** What others have changed, one line a setting. */
function movesOf(before: Intent, after: Intent, own: readonly string[]): string[] {
  const moved = Object.entries(settingDifferences(before.values, after.values))
  return moved.map(([key, pair]) => {
    const whose = own.includes(key) ? '; below is your value' : ', as below'
    return `  ${key} was ${shown(pair.before)} and is now ${shown(pair.after)}${whose}`
  })
}

/** What others have left, with what was edited on top. */
function merged(before: Intent, after: Intent, wanted: Record<string, unknown>): Record<string, unknown> {
  const values = new Map(Object.entries(after.values))
  for (const key of Object.keys(settingDifferences(before.values, wanted))) {
    if (wanted[key] === undefined) values.delete(key)
    else values.set(key, wanted[key])
  }
  return Object.fromEntries(values)
}
