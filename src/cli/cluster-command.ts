import type { Command } from 'commander'
import type { Overrides } from '../config/layers.ts'
import type { Origins } from '../config/load.ts'
import type { Config, SectionName } from '../config/schema.ts'
import { silentLogger } from '../runtime/log.ts'
import { type Store, StoreError } from '../store/store.ts'
import { type AdminAddress, adminAddress, adminTurnedOff, NoAnswer } from './admin-client.ts'
import { requireConfig } from './config.ts'
import { openStoreForCommand } from './open-store.ts'
import { CommandError, type CommandIo } from './output.ts'
import { addSettings, clusterSettings, type OptionValues, overridesOf } from './settings.ts'

/** The options of every command that looks at a cluster or changes it, and then ends. */
export function addClusterOptions(command: Command): Command {
  return addSettings(command, clusterSettings)
    .option('--admin-url <url>', 'admin interface of a running pgherd')
    .option('--json', 'print the result as JSON')
}

/** What such a command goes by. */
export interface ClusterAccess {
  config: Config
  /** Where its values come from. */
  origins: Origins
  /** Undefined when the configuration has turned the interface off. */
  admin: AdminAddress | undefined
  /** Whether that address was named: then no other way to the store is taken. */
  adminNamed: boolean
  /** Whether the cluster was named. */
  clusterNamed: boolean
  json: boolean
}

/** Reads the configuration for a command from the options that `addClusterOptions` has added. */
export function clusterAccess(
  io: CommandIo,
  command: Command,
  sections: readonly SectionName[],
  moreOverrides: Overrides = {},
): ClusterAccess {
  const options: OptionValues = command.optsWithGlobals()
  const overrides = { ...overridesOf(clusterSettings, options), ...moreOverrides }
  const { config, origins } = requireConfig(io, { file: text(options['config']), overrides, sections })
  return {
    config,
    origins,
    admin: adminAddress(io, text(options['adminUrl']), config.admin),
    adminNamed: options['adminUrl'] !== undefined || Boolean(io.env['PGHERD_ADMIN_URL']),
    clusterNamed: options['cluster'] !== undefined,
    json: options['json'] === true,
  }
}

/**
 * Runs `work` on the store and lets go of it: etcd itself, or the embedded store of a running pgherd through its
 * admin interface.
 * @throws NoAnswer when that one cannot be reached
 */
export async function withStore<T>(access: ClusterAccess, work: (store: Store) => Promise<T>): Promise<T> {
  const { config, admin } = access
  if (config.store.kind === 'embedded' && !admin) throw adminTurnedOff()
  const store = await openStoreForCommand(config, admin?.url ?? '', silentLogger)
  try {
    return await work(store)
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'unavailable' || store.kind === 'etcd' || !admin)
      throw error
    if (error.cause !== undefined) throw new NoAnswer(admin.url, error.cause)
    throw new CommandError('failed', error.message, {
      cause: error,
      hint: 'where the keys are kept in etcd, say so with --etcd or in the configuration',
    })
  } finally {
    await store.close()
  }
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}
