import type { Command } from 'commander'
import type { Overrides } from '../config/layers.ts'
import type { Config, SectionName } from '../config/schema.ts'
import { requireConfig } from './config.ts'
import { CommandError, type CommandIo } from './output.ts'
import type { RunRequest } from './run.ts'

/** How a command that stays is started. */
export interface StartRequest {
  /** The file that the command line names. */
  named: string | undefined
  overrides: Overrides
  sections: readonly SectionName[] | undefined
  /** Throws when the command makes no sense with this configuration. */
  check: (config: Config) => void
  partsOf: (config: Config) => RunRequest['parts']
}

/** Reads the configuration and runs until the process is told to stop. */
export async function start(
  io: CommandIo,
  { named, overrides, sections, check, partsOf }: StartRequest,
): Promise<void> {
  const { config, origins, file } = requireConfig(io, { file: named, overrides, sections })
  check(config)
  const { run } = await import('./run.ts')
  await run(io, { config, origins, file, overrides, sections, parts: partsOf(config) })
}

/** What `--config` names. */
export function configFileOf(program: Command): string | undefined {
  return program.opts<{ config?: string }>().config
}

/** The embedded store belongs to the one process that runs it. */
export function checkShared({ store }: Config, who: string): void {
  if (store.kind === 'etcd') return
  throw new CommandError(
    'usage',
    `${who} alone needs a store that others can reach, and this one is embedded`,
    {
      hint: 'name an etcd with --etcd HOST:PORT or `store.kind: etcd`; for one machine there is pgherd up',
    },
  )
}
