import type { Command } from 'commander'
import type { Overrides } from '../config/layers.ts'
import type { Config } from '../config/schema.ts'
import { CommandError, type CommandIo } from './output.ts'
import {
  addSettings,
  clusterSettings,
  logSettings,
  overridesOf,
  readAddress,
  readServer,
} from './settings.ts'
import { checkShared, configFileOf, start } from './start.ts'

const settings = [
  { flags: '--node <name>', key: 'agent.node', description: 'name of the node it reports' },
  { flags: '--zone <zone>', key: 'agent.zone', description: 'where the node stands' },
  { flags: '--listen <address>', key: 'agent.listen', description: 'address of its health checks' },
  { flags: '--http-port <port>', key: 'agent.http_port', description: 'HTTP health checks; 0 for none' },
  { flags: '--check-port <port>', key: 'agent.check_port', description: 'HAProxy agent checks; 0 for none' },
  ...clusterSettings,
  ...logSettings,
]

interface AgentOptions {
  postgres?: { host: string; port: number }
  advertise?: { host: string; port: number }
}

/** Adds `agent`. */
export function addAgentCommand(program: Command, io: CommandIo): void {
  const command = program
    .command('agent')
    .description('run an agent alone, beside the PostgreSQL server that it reports')
    .option('--postgres <address>', 'its PostgreSQL: HOST[:PORT], or the folder of a Unix socket', readServer)
    .option('--advertise <address>', 'where proxies reach that PostgreSQL, HOST[:PORT]', readAddress)
  addSettings(command, settings)
    .addHelpText('after', '\nExample:\n  pgherd agent --node a --etcd 10.0.0.7:2379 --advertise 10.0.0.1')
    .action(async (options: AgentOptions) => {
      const named = configFileOf(program)
      const { postgres, advertise } = options
      const overrides: Overrides = {
        ...overridesOf(settings, { ...options }),
        ...addressOverrides('agent.postgres.host', 'agent.postgres.port', '--postgres', postgres),
        ...addressOverrides('agent.advertise_host', 'agent.advertise_port', '--advertise', advertise),
      }
      await start(io, {
        named,
        overrides,
        sections: ['store', 'agent'],
        check: checkAgent,
        partsOf: () => ({ agent: true, proxy: false, admin: false }),
      })
    })
}

function addressOverrides(
  hostKey: string,
  portKey: string,
  flag: string,
  address: { host: string; port: number } | undefined,
): Overrides {
  if (!address) return {}
  return { [hostKey]: { value: address.host, flag }, [portKey]: { value: address.port, flag } }
}

function checkAgent(config: Config): void {
  checkShared(config, 'an agent')
  if (config.agent.node !== undefined) return
  throw new CommandError('usage', 'an agent needs the name of its node', {
    hint: 'give it with --node NAME, `agent.node` or PGHERD_AGENT_NODE',
  })
}
