import { join } from 'node:path'
import type { Command } from 'commander'
import type { Overrides } from '../config/layers.ts'
import { loadConfigFile } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { CommandError, type CommandIo } from './output.ts'
import { addSettings, overridesOf } from './settings.ts'

export interface DemoOptions {
  load?: true
  data?: string
}

const demoSettings = [
  { flags: '--port <port>', key: 'proxy.port', description: 'port for reads and writes' },
  { flags: '--read-port <port>', key: 'proxy.read_port', description: 'port for reads only' },
  { flags: '--admin-port <port>', key: 'admin.port', description: 'port of the admin interface' },
  { flags: '--workers <number>', key: 'proxy.workers', description: 'worker processes of the proxy' },
  { flags: '--log-level <level>', key: 'log.level', description: 'least severe event that is logged' },
]

/** Adds `demo`. */
export function addDemoCommand(program: Command, io: CommandIo): void {
  const command = program
    .command('demo')
    .description('try it: a real cluster of three PostgreSQL servers on this machine, with pgherd in front')
    .option('--load', 'run a synthetic workload of reads and writes')
    .option(
      '--data <folder>',
      'keep the data there for next time; without it everything is removed at the end',
    )
  addSettings(command, demoSettings)
    .addHelpText(
      'after',
      `
Example:
  pgherd demo --load
  psql -h 127.0.0.1 -p 6432 -U postgres        (in another terminal)

PGHERD_POSTGRES_BIN names the folder of the PostgreSQL programs to use.`,
    )
    .action(async (options: DemoOptions & Record<string, unknown>) => {
      const config = demoConfig(io, options)
      const { runDemo } = await import('./run-demo.ts')
      await runDemo(io, config, options)
    })
}

/** The demo looks at no configuration file: it is the same everywhere. */
function demoConfig(io: CommandIo, options: DemoOptions & Record<string, unknown>): Config {
  const store = options.data === undefined ? ':memory:' : join(options.data, 'store')
  const overrides: Overrides = {
    'store.path': { value: store, flag: '--data' },
    // A demo ends when it is told to, not when its last idle session does.
    'proxy.shutdown_timeout': { value: '500ms', flag: 'demo' },
    ...overridesOf(demoSettings, options),
  }
  const loaded = loadConfigFile(undefined, { env: {}, overrides, readFile: io.readFile })
  if (loaded.ok) return loaded.config
  throw new CommandError('usage', loaded.problems.map(({ message }) => message).join('; '))
}
