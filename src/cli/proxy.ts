import type { Command } from 'commander'
import type { CommandIo } from './output.ts'
import { addSettings, clusterSettings, logSettings, overridesOf, proxySettings } from './settings.ts'
import { checkShared, configFileOf, start } from './start.ts'

const settings = [...proxySettings, ...clusterSettings, ...logSettings]

/** Adds `proxy`. */
export function addProxyCommand(program: Command, io: CommandIo): void {
  const command = program
    .command('proxy')
    .description('run a proxy alone: agents and other proxies share its etcd')
  addSettings(command, settings)
    .addHelpText('after', '\nExample:\n  pgherd proxy --etcd 10.0.0.7:2379 --listen 0.0.0.0')
    .action(async (options: object) => {
      const named = configFileOf(program)
      const overrides = overridesOf(settings, { ...options })
      await start(io, {
        named,
        overrides,
        sections: ['store', 'probe', 'admin'],
        check: config => checkShared(config, 'a proxy'),
        partsOf: () => ({ agent: false, proxy: true, admin: true }),
      })
    })
}
