import type { Command } from 'commander'
import { overlayFleet, overlayOrigins, readFleet } from '../config/fleet.ts'
import { configJsonSchema } from '../config/json-schema.ts'
import { effectiveConfig, effectiveObject, effectiveYaml } from '../config/show.ts'
import { readIntent } from '../topology/intent.ts'
import { adminAddress, NoAnswer } from './admin-client.ts'
import { addClusterOptions, type ClusterAccess, withStore } from './cluster-command.ts'
import { defaultConfigFile, describeAll, load, problemLines, problemsError } from './config.ts'
import { addEditCommand } from './config-edit.ts'
import { addHistoryCommands } from './config-history.ts'
import { addSetCommands } from './config-set.ts'
import { type CommandIo, painter, printJson, printWarning } from './output.ts'
import { clusterSettings, type OptionValues, overridesOf } from './settings.ts'

/**
 * Adds `config check`, `config show` and `config schema`, which are about the configuration of one process, and `set`,
 * `unset`, `edit`, `history`, `diff` and `rollback`, which are about what operators want of the whole fleet.
 */
export function addConfigCommands(program: Command, io: CommandIo): void {
  const config = program.command('config').description('check, show and change the configuration')
  config
    .command('check')
    .description('say what is wrong with a configuration, with line and column')
    .argument('[file]', 'configuration file')
    .option('--json', 'print the result as JSON')
    .action((named: string | undefined, options: { json?: true }) => {
      check(io, defaultConfigFile(io, named ?? configOption(program)), options.json === true)
    })
  addClusterOptions(
    config
      .command('show')
      .description('show the configuration that counts, and where each value comes from')
      .argument('[file]', 'configuration file')
      .option('--local', 'without the settings of the fleet, which stand in the store'),
  ).action(async (named: string | undefined, options: ShowOptions) => {
    await show(io, defaultConfigFile(io, named ?? configOption(program)), options)
  })
  config
    .command('schema')
    .description('print the JSON Schema of the configuration, for editors')
    .action(() => printJson(io, configJsonSchema()))
  addSetCommands(config, io)
  addEditCommand(config, io)
  addHistoryCommands(config, io)
}

function check(io: CommandIo, file: string | undefined, json: boolean): void {
  const loaded = load(io, file, {})
  const problems = loaded.ok ? [] : loaded.problems
  if (json) {
    printJson(io, { file: file ?? null, ok: loaded.ok, problems, warnings: loaded.warnings })
  } else {
    for (const line of problemLines(problems, io.colour)) io.stdout(line)
    for (const { message, hint } of describeAll(loaded.warnings)) printWarning(io, message, hint)
    if (loaded.ok) io.stdout(`${file ?? 'no configuration file, defaults and environment'}: ok\n`)
  }
  if (!loaded.ok) throw problemsError(file, problems)
}

interface ShowOptions extends OptionValues {
  json?: true
  local?: true
  adminUrl?: string
}

async function show(io: CommandIo, file: string | undefined, options: ShowOptions): Promise<void> {
  const { json, local, adminUrl } = options
  const loaded = load(io, file, { overrides: overridesOf(clusterSettings, options) })
  if (!loaded.ok) {
    for (const line of problemLines(loaded.problems, io.stderrColour)) io.stderr(line)
    throw problemsError(file, loaded.problems)
  }
  const { config, origins } = loaded
  const admin = adminAddress(io, adminUrl, config.admin)
  const access: ClusterAccess = {
    config,
    origins,
    admin,
    adminNamed: false,
    clusterNamed: false,
    json: json === true,
  }
  const reading = readFleet(local ? {} : await fleetOf(io, access))
  const effective = effectiveConfig(overlayFleet(config, origins, reading), overlayOrigins(origins, reading))
  if (json) {
    const texts = Object.fromEntries(effective.origins)
    printJson(io, { file: file ?? null, config: effectiveObject(effective), origins: texts })
    return
  }
  const paint = painter(io.colour)
  const yaml = effectiveYaml(effective)
  io.stdout(yaml.replace(/ {2}# .*$/gm, comment => paint.dim(comment)))
}

/**
 * What the store says of the fleet. Without the store the rest is worth showing too; an embedded store that nobody runs
 * says nothing to anyone.
 */
async function fleetOf(io: CommandIo, access: ClusterAccess): Promise<Record<string, unknown>> {
  if (access.config.store.kind === 'embedded' && !access.admin) return {}
  try {
    const { values } = await withStore(access, store => readIntent(store, access.config.cluster))
    return values
  } catch (error) {
    if (!(error instanceof NoAnswer)) {
      const why = error instanceof Error ? error.message : String(error)
      printWarning(io, `the settings of the fleet are not among these: ${why}`)
    }
    return {}
  }
}

function configOption(program: Command): string | undefined {
  return program.opts<{ config?: string }>().config
}
