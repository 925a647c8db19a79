import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import type { Overrides } from '../config/layers.ts'
import type { Config } from '../config/schema.ts'
import { defaultConfigFile } from './config.ts'
import { CommandError, type CommandIo } from './output.ts'
import {
  addSettings,
  clusterSettings,
  collectNode,
  logSettings,
  type NodeArgument,
  overridesOf,
  proxySettings,
} from './settings.ts'
import { configFileOf, start } from './start.ts'

const memoryStore = ':memory:'

const upSettings = [
  ...proxySettings,
  { flags: '--store-path <folder>', key: 'store.path', description: 'folder of the embedded store' },
  ...clusterSettings,
  ...logSettings,
]

/** Adds `up`. */
export function addUpCommand(program: Command, io: CommandIo): void {
  const command = program
    .command('up')
    .description('run everything in one process: proxy, store, admin, and the agent where one is configured')
    .option(
      '--node <address>',
      'a PostgreSQL server, HOST[:PORT] or NAME=HOST[:PORT]; may be repeated',
      collectNode,
    )
  addSettings(command, upSettings)
    .addHelpText(
      'after',
      `
Without a configuration file, --node keeps the store in memory unless --store-path is given.
The proxy asks each server for its role itself: no agent is needed.

Example:
  pgherd up --node 10.0.0.1 --node 10.0.0.2
  pgherd up --config /etc/pgherd/pgherd.yaml`,
    )
    .action(async (options: { node?: NodeArgument[]; storePath?: string }) => {
      const named = configFileOf(program)
      const overrides: Overrides = {
        ...overridesOf(upSettings, { ...options }),
        ...(options.node && { nodes: { value: options.node, flag: '--node' } }),
        ...(wantsMemory(io, named, options) && { 'store.path': { value: memoryStore, flag: '--node' } }),
      }
      await start(io, {
        named,
        overrides,
        sections: undefined,
        check: checkSomethingToDo,
        partsOf: ({ agent }) => ({ agent: agent.node !== undefined, proxy: true, admin: true }),
      })
    })
}

/** A start from the command line alone is a trial, which leaves no folder behind. */
function wantsMemory(
  io: CommandIo,
  named: string | undefined,
  { node, storePath }: { node?: NodeArgument[]; storePath?: string },
): boolean {
  if (!node || storePath !== undefined || io.env['PGHERD_STORE_PATH']) return false
  return defaultConfigFile(io, named) === undefined
}

function checkSomethingToDo({ nodes, agent, store }: Config): void {
  if (nodes.length > 0 || agent.node !== undefined || store.kind === 'etcd') return
  // Nodes that were added by command stand in the store.
  if (store.path !== memoryStore && existsSync(store.path)) return
  throw new CommandError('usage', 'there is no PostgreSQL server to use', {
    hint: 'name one or more with --node HOST, list `nodes` in the configuration, or set `agent.node`',
  })
}
