import { constants } from 'node:os'
import { isatty } from 'node:tty'
import type { Overrides } from '../config/layers.ts'
import type { Origins } from '../config/load.ts'
import { formatProblem } from '../config/problem.ts'
import { type Change, planReload, reloadReport } from '../config/reload.ts'
import type { Config, SectionName } from '../config/schema.ts'
import type { OperatorCommands } from '../proxy/console/desk.ts'
import { createLogger, type Logger } from '../runtime/log.ts'
import { inheritedSockets, ServiceManager } from '../runtime/systemd.ts'
import { systemTimers } from '../runtime/timers.ts'
import { inheritedRoutes } from './activation.ts'
import { Host } from './host.ts'
import { loadChecked } from './load-checked.ts'
import type { CommandIo } from './output.ts'
import { ServiceReport } from './service-report.ts'

/** What a process of pgherd was started with; a reload reads the same again. */
export interface RunRequest {
  config: Config
  /** Where its values come from. */
  origins: Origins
  /** The file that `config` was read from. */
  file: string | undefined
  overrides: Overrides
  /** Sections whose secrets the process needs; all when undefined. */
  sections: readonly SectionName[] | undefined
  parts: { agent: boolean; proxy: boolean; admin: boolean }
}

/** What a stop may take beyond the time that sessions have for it. */
const stopSlackMs = 10_000

/**
 * Runs parts of pgherd in this process until it is told to stop: SIGTERM and SIGINT end it in good order (a
 * second one at once), SIGHUP reads the configuration again, SIGUSR2 replaces the data workers. A service manager is told how it is, and its sockets
 * are taken in place of the proxy's ports. Resolves after a clean stop.
 * @throws whatever keeps a part from starting; nothing is left behind then
 */
export async function run(io: CommandIo, request: RunRequest): Promise<void> {
  const { config, origins, parts } = request
  const logFormat = logFormatOf(config)
  const writeLog = (line: string): void => io.stderr(line)
  const log = createLogger({ level: config.log.level, format: logFormat, write: writeLog })
  const fail = (cause: unknown): never => {
    log.fatal({ event: 'process.failed', err: cause }, 'an unexpected error ends this process')
    process.exit(1)
  }
  process.on('uncaughtException', fail)
  const stop = new StopRequest(log)
  const service = new ServiceManager({ env: io.env, pid: process.pid, timers: systemTimers, log })
  try {
    const commands: OperatorCommands = {
      reload: () => Promise.resolve(['the process is still starting']),
      stop: why => stop.ask(why),
    }
    const inherited = parts.proxy ? inheritedRoutes(inheritedSockets(io.env, process.pid)) : []
    const host = await Host.start({ config, origins, parts, inherited, log, writeLog, logFormat, commands })
    const report = new ServiceReport(host, service)
    const reloads = new Reloads(host, request, io, log, stop, report)
    commands.reload = () => reloads.reload()
    const restartWorkers = (): void => void host.restartWorkers()
    process.on('SIGUSR2', restartWorkers)
    try {
      if (!stop.isAsked) io.stdout(`pgherd is ready: ${placesOf(host)}\n`)
      await stop.asked
    } finally {
      process.off('SIGUSR2', restartWorkers)
      reloads.close()
      report.close()
      service.stopping(host.config.proxy.shutdown_timeout + stopSlackMs)
      await host.stop()
    }
    log.info({ event: 'process.stopped' }, 'stopped')
  } finally {
    stop.close()
    await service.close()
    process.off('uncaughtException', fail)
  }
}

function logFormatOf({ log }: Config): 'json' | 'text' {
  if (log.format !== 'auto') return log.format
  return process.stderr.isTTY ? 'text' : 'json'
}

/** Where the parts listen: `reads and writes on 127.0.0.1:6432, reads on 6433, admin on http://...`. */
function placesOf({ config, proxy, admin, agent }: Host): string {
  const places: string[] = []
  if (agent) places.push(`reports node ${config.agent.node}`)
  if (agent?.httpPort !== undefined) places.push(`health on http://${config.agent.listen}:${agent.httpPort}`)
  if (proxy) {
    for (const { route, host, port } of proxy.places) {
      places.push(route === 'primary' ? `reads and writes on ${host}:${port}` : `reads on ${port}`)
    }
  }
  if (admin) places.push(`admin on ${admin.url}`)
  return places.join(', ')
}

/** Waits for SIGTERM or SIGINT. The second of them ends the process where it stands. */
class StopRequest {
  readonly asked: Promise<void>
  isAsked = false
  readonly #log: Logger
  readonly #listener: (signal: NodeJS.Signals) => void
  #resolve: () => void = () => undefined

  constructor(log: Logger) {
    this.#log = log
    this.asked = new Promise(resolve => {
      this.#resolve = resolve
    })
    this.#listener = signal => {
      // Data workers end by themselves when this process is gone.
      if (this.isAsked) process.exit(128 + constants.signals[signal])
      this.ask(signal)
    }
    process.on('SIGTERM', this.#listener)
    process.on('SIGINT', this.#listener)
  }

  ask(why: string): void {
    this.isAsked = true
    this.#log.info({ event: 'process.stopping' }, `${why}: stopping; a second signal stops at once`)
    this.#resolve()
  }

  close(): void {
    process.off('SIGTERM', this.#listener)
    process.off('SIGINT', this.#listener)
  }
}

/** Reads the configuration again at SIGHUP, and when the console wants it: one reload after the other. */
class Reloads {
  readonly #host: Host
  readonly #request: RunRequest
  readonly #io: CommandIo
  readonly #log: Logger
  readonly #report: ServiceReport
  readonly #listener: () => void
  #last: Promise<readonly string[]> = Promise.resolve([])

  constructor(
    host: Host,
    request: RunRequest,
    io: CommandIo,
    log: Logger,
    stop: StopRequest,
    report: ServiceReport,
  ) {
    this.#host = host
    this.#report = report
    this.#request = request
    this.#io = io
    this.#log = log
    const hadTerminal = isatty(0)
    this.#listener = () => {
      // The terminal was closed: nobody is left to stop what was started there.
      if (hadTerminal && !isatty(0)) return stop.ask('the terminal is gone')
      void this.reload()
    }
    process.on('SIGHUP', this.#listener)
  }

  close(): void {
    process.off('SIGHUP', this.#listener)
  }

  /** Resolves with what is wrong with the configuration, when nothing was applied for that; never rejects. */
  reload(): Promise<readonly string[]> {
    this.#last = this.#last.then(async () => {
      this.#report.reloading()
      const problems = await this.#reload()
      this.#report.reloaded()
      return problems
    })
    return this.#last
  }

  async #reload(): Promise<readonly string[]> {
    const { file, overrides, sections } = this.#request
    const { env, readFile } = this.#io
    const log = this.#log
    const event = 'config.reload'
    const loaded = loadChecked(file, { env, overrides, sections, readFile })
    for (const warning of loaded.warnings) log.warn({ event }, formatProblem(warning))
    const plan = planReload(this.#host.ownConfig, loaded)
    if (!loaded.ok || plan.problems.length > 0) {
      for (const sentence of reloadReport(plan)) log.error({ event }, sentence)
      return plan.problems.map(formatProblem)
    }
    const standing = plan.live.filter(isAboutKnownNode)
    const live = plan.live.filter(change => !standing.includes(change))
    const sentences = reloadReport({ ...plan, live })
    try {
      await this.#host.reload(plan.applied, loaded.origins)
    } catch (cause) {
      log.error({ event, err: cause }, 'the new configuration could not be taken over')
      return ['the new configuration could not be taken over']
    }
    if (live.length + plan.restart.length > 0 || standing.length === 0) {
      for (const sentence of sentences) log.info({ event }, sentence)
    }
    for (const { path } of standing) {
      const sentence = `${path} stays as it is in the store, which counts: change it with pgherd node`
      log.warn({ event }, sentence)
    }
    return []
  }
}

/** A file only declares nodes that the store does not know yet. */
function isAboutKnownNode({ path, before }: Change): boolean {
  return path.startsWith('nodes.') && before !== undefined
}
