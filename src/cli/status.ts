import { type Command, Option } from 'commander'
import type { TopologyAnswer } from '../admin/admin.ts'
import { pause, systemTimers } from '../runtime/timers.ts'
import { askAdmin, NoAnswer } from './admin-client.ts'
import { addClusterOptions, type ClusterAccess, clusterAccess, withStore } from './cluster-command.ts'
import { readCluster, topologyFromStore } from './cluster-view.ts'
import { CommandError, type CommandIo, printError, printJson } from './output.ts'
import { Screen } from './screen.ts'
import { readDuration } from './settings.ts'
import { formatStatus, type ProxyAnswer, type Status, statusAsJson } from './status-view.ts'

/** Adds `status`. */
export function addStatusCommand(program: Command, io: CommandIo): void {
  const command = program.command('status').description('show the cluster as a running pgherd sees it')
  addClusterOptions(command)
    .addOption(
      new Option('-w, --watch [duration]', 'show it again and again, every second unless said')
        .argParser(readDuration)
        .preset('1s'),
    )
    .addHelpText(
      'after',
      `
Ends with 0 whenever the status could be shown, also when something is wrong with the cluster.
With the keys in etcd and no pgherd to ask, what the store knows is shown.

Example:
  pgherd status --watch
  pgherd status --json | jq -r .topology.primary`,
    )
    .action(async (options: { watch?: number }) => {
      const access = clusterAccess(io, command, ['store', 'admin'])
      const { watch } = options
      if (watch === undefined) show(io, access, await readStatus(access))
      else await watchStatus(io, access, watch)
    })
}

function show(io: CommandIo, { json }: ClusterAccess, status: Status): void {
  if (json) printJson(io, statusAsJson(status))
  else io.stdout(formatStatus(status, io))
}

/** Asks a running pgherd; where none answers, but the keys are in etcd, those. */
async function readStatus(access: ClusterAccess): Promise<Status> {
  const { config, admin } = access
  if (admin) {
    try {
      const status = await statusFromAdmin(admin)
      const { cluster } = status.topology
      if (!access.clusterNamed || cluster === config.cluster) return status
      throw new CommandError(
        'usage',
        `what answers at ${admin.url} serves the cluster ${cluster}, not ${config.cluster}`,
        {
          hint: 'name the admin interface of the other one with --admin-url',
        },
      )
    } catch (error) {
      if (!(error instanceof NoAnswer) || config.store.kind !== 'etcd') throw error
    }
  }
  return withStore(access, async store => {
    const state = await readCluster(store, config.cluster)
    return {
      source: 'store',
      store: { up: true, reason: undefined },
      topology: topologyFromStore(state, access),
      proxy: undefined,
      proxies: [...state.proxyStatuses.values()].map(({ value }) => value),
    }
  })
}

async function statusFromAdmin(admin: NonNullable<ClusterAccess['admin']>): Promise<Status> {
  const [{ store, topology, proxies }, proxy] = await Promise.all([
    askAdmin<TopologyAnswer>(admin, '/api/topology'),
    askAdmin<ProxyAnswer | null>(admin, '/api/proxy'),
  ])
  return { source: 'admin', store, topology, proxy: proxy ?? undefined, proxies }
}

/** Shows the status until Ctrl-C: in place on a terminal, else one block after the other. */
async function watchStatus(io: CommandIo, access: ClusterAccess, periodMs: number): Promise<void> {
  const stop = new AbortController()
  const onSignal = (): void => stop.abort()
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  const screen = io.width === undefined || access.json ? undefined : new Screen(io)
  screen?.clear()
  try {
    while (!stop.signal.aborted) {
      const block = collect(io)
      try {
        show(block.io, access, await readStatus(access))
      } catch (error) {
        // It may come back.
        if (access.json) printError(io, error)
        else printError(block.io, error)
      }
      if (screen) screen.draw(block.text())
      else io.stdout(access.json ? block.text() : `${block.text()}\n`)
      await pause(systemTimers, periodMs, stop.signal)
    }
  } finally {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}

/** Keeps what is written, to show it at once. */
function collect(io: CommandIo): { io: CommandIo; text: () => string } {
  let written = ''
  const write = (text: string): void => {
    written += text
  }
  return {
    io: { ...io, stdout: write, stderr: write, stderrColour: io.colour },
    text: () => written,
  }
}
