import type { Command } from 'commander'
import { restartWorkersPath } from '../admin/paths.ts'
import { adminTurnedOff, askAdmin } from './admin-client.ts'
import { addClusterOptions, clusterAccess } from './cluster-command.ts'
import { type CommandIo, printJson } from './output.ts'
import { addSettings, clusterSettings, logSettings, overridesOf, proxySettings } from './settings.ts'
import { checkShared, configFileOf, start } from './start.ts'

const settings = [...proxySettings, ...clusterSettings, ...logSettings]

/** Adds `proxy`, and below it what is done to a running one. */
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
  addRestartWorkers(command, io)
}

function addRestartWorkers(proxy: Command, io: CommandIo): void {
  const command = proxy
    .command('restart-workers')
    .description('replace the data workers of a running proxy by new processes, one after the other')
  addClusterOptions(command)
    .addHelpText(
      'after',
      `
New clients are taken all the time. Idle clients of shared pools go to the new workers with their connections. Those that
cannot (session mode, TLS, pinned ones) are disconnected when they are idle, and after proxy.shutdown_timeout at the
latest. Ends at once; the log of the proxy tells how it goes.

Example:
  pgherd proxy restart-workers --admin-url http://127.0.0.1:6480`,
    )
    .action(async () => {
      const { admin, json } = clusterAccess(io, command, ['admin'])
      if (!admin) throw adminTurnedOff()
      const answer = await askAdmin<{ workers: number }>(admin, restartWorkersPath, 'POST')
      if (json) printJson(io, answer)
      else
        io.stdout(
          `${answer.workers} data workers are replaced, one after the other: see the log of the proxy\n`,
        )
    })
}
