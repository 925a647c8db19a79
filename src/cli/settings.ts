import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Overrides } from '../config/layers.ts'
import { namePattern, parseAddress } from '../config/names.ts'
import { parseDuration } from '../config/units.ts'

/** An option of the command line that sets one key of the configuration. */
export interface Setting {
  flags: string
  key: string
  description: string
}

/** Options, by attribute name as commander gives them. */
export type OptionValues = Readonly<Record<string, unknown>>

/** Which cluster, in which store: for every command that has to do with one. */
export const clusterSettings: readonly Setting[] = [
  { flags: '--cluster <name>', key: 'cluster', description: 'name of the cluster' },
  {
    flags: '--etcd <endpoints>',
    key: 'store.endpoints',
    description: 'keep the keys in etcd: host:port, several with commas',
  },
]

/** For the commands that stay. */
export const logSettings: readonly Setting[] = [
  { flags: '--log-level <level>', key: 'log.level', description: 'least severe event that is logged' },
]

export const proxySettings: readonly Setting[] = [
  { flags: '--listen <address>', key: 'proxy.listen', description: 'address to listen on' },
  { flags: '--port <port>', key: 'proxy.port', description: 'port for reads and writes' },
  { flags: '--read-port <port>', key: 'proxy.read_port', description: 'port for reads only; 0 for none' },
  { flags: '--id <name>', key: 'proxy.id', description: 'name of this proxy in its cluster' },
  { flags: '--workers <number>', key: 'proxy.workers', description: 'worker processes' },
  { flags: '--admin-port <port>', key: 'admin.port', description: 'port of the admin interface; 0 for none' },
]

export function addSettings(command: Command, settings: readonly Setting[]): Command {
  for (const { flags, description } of settings) command.addOption(new Option(flags, description))
  return command
}

/** What the options given set, with the names that a message about them must have. */
export function overridesOf(settings: readonly Setting[], options: OptionValues): Overrides {
  const overrides: Record<string, { value: unknown; flag: string }> = {}
  for (const { flags, key } of settings) {
    const option = new Option(flags)
    const value = options[option.attributeName()]
    if (value === undefined) continue
    const flag = option.long ?? flags
    overrides[key] = { value, flag }
    if (key === 'store.endpoints') overrides['store.kind'] = { value: 'etcd', flag }
  }
  return overrides
}

/** A server named on the command line. */
export interface NodeArgument {
  name?: string
  host: string
  port: number
}

/** Reads `[NAME=]HOST[:PORT]`; collects what an option that may be repeated has given. */
export function collectNode(text: string, before: NodeArgument[] | undefined): NodeArgument[] {
  const [address = '', name] = text.split('=', 2).toReversed()
  const node = { ...readAddress(address), ...(name !== undefined && { name }) }
  if (name !== undefined && !namePattern.test(name)) {
    throw new InvalidArgumentError(`"${name}" cannot be a node's name.`)
  }
  return [...(before ?? []), node]
}

/** Reads `HOST[:PORT]`; 5432 without a port. */
export function readAddress(text: string): { host: string; port: number } {
  const address = parseAddress(text)
  if (!address) throw new InvalidArgumentError('Expected HOST or HOST:PORT.')
  return address
}

/** Reads `HOST[:PORT]` or the folder of a Unix socket, `/FOLDER[:PORT]`. */
export function readServer(text: string): { host: string; port: number } {
  if (!text.startsWith('/')) return readAddress(text)
  const [, folder = text, port = '5432'] = /^(.*?)(?::(\d{1,5}))?$/.exec(text) ?? []
  return { host: folder, port: Number(port) }
}

/** Reads a duration such as `5s`, a number alone as seconds. In ms. */
export function readDuration(text: string): number {
  const durationMs = parseDuration(/^[\d.]+$/.test(text) ? `${text}s` : text)
  if (durationMs === undefined || durationMs === 0) {
    throw new InvalidArgumentError('Expected a duration such as 500ms or 5s.')
  }
  return durationMs
}
