import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { programPath } from './need.ts'
import type { Network } from './network.ts'
import { freePorts } from './ports.ts'
import { until } from './wait.ts'

const run = promisify(execFile)

/** Why there is no etcd here, or undefined when there is. */
export function etcdMissing(): string | undefined {
  return programPath('etcd') && programPath('etcdctl') ? undefined : 'etcd or etcdctl not found in PATH'
}

export interface EtcdOptions {
  /** Members; 1 unless said. */
  size?: number
  tls?: { caFile: string; certFile: string; keyFile: string }
  /** Seconds. */
  authTokenTtl?: number
  quotaBytes?: number
  /** Where the members run; this machine's own network unless said. */
  network?: Network
}

/** A real etcd cluster on free ports of 127.0.0.1 (or another network's address) in a temporary folder. */
export class EtcdCluster {
  readonly members: EtcdMember[]
  readonly folder: string
  private readonly options: EtcdOptions

  static async start(options: EtcdOptions = {}): Promise<EtcdCluster> {
    const size = options.size ?? 1
    const folder = await mkdtemp(join(tmpdir(), 'pgherd-etcd-'))
    const ports = await freePorts(size * 3)
    const host = options.network?.address ?? '127.0.0.1'
    const peers = Array.from({ length: size }, (_, index) => `m${index}=http://${host}:${ports[index * 3]}`)
    const scheme = options.tls ? 'https' : 'http'
    const members = peers.map((peer, index) => {
      const [name = '', peerUrl = ''] = peer.split('=')
      const url = `${scheme}://${host}:${ports[index * 3 + 1]}`
      const metricsUrl = `http://${host}:${ports[index * 3 + 2]}`
      const cluster = peers.join(',')
      const args = memberArguments(options, { name, peerUrl, url, metricsUrl, folder, cluster })
      return new EtcdMember(url, metricsUrl, args, options.network)
    })
    const etcd = new EtcdCluster(folder, members, options)
    try {
      for (const member of members) member.start()
      await Promise.all(members.map(member => member.healthy()))
    } catch (cause) {
      await etcd.stop()
      throw cause
    }
    return etcd
  }

  private constructor(folder: string, members: EtcdMember[], options: EtcdOptions) {
    this.folder = folder
    this.members = members
    this.options = options
  }

  get endpoints(): string[] {
    return this.members.map(member => member.url)
  }

  /** Waits for the member that leads. */
  leader(): Promise<EtcdMember> {
    return until('an etcd leader', async () => {
      for (const member of this.members) if (await member.leads()) return member
      return undefined
    })
  }

  /** Runs etcdctl against `member`, the first one unless said; gives back what it prints. */
  async ctl(args: string[], member: EtcdMember | undefined = this.members[0]): Promise<string> {
    const { tls } = this.options
    const files = tls ? ['--cacert', tls.caFile, '--cert', tls.certFile, '--key', tls.keyFile] : []
    const { stdout } = await run('etcdctl', ['--endpoints', member?.url ?? '', ...files, ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
    })
    return stdout
  }

  /** Forgets all history up to now. */
  async compact(member?: EtcdMember): Promise<void> {
    const status = JSON.parse(await this.ctl(['endpoint', 'status', '-w', 'json'], member)) as {
      Status: { header: { revision: number } }
    }[]
    await this.ctl(['compact', String(status[0]?.Status.header.revision)], member)
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map(member => member.kill()))
    await rm(this.folder, { recursive: true, force: true })
  }
}

export class EtcdMember {
  readonly url: string
  private readonly metricsUrl: string
  private readonly args: string[]
  private readonly network: Network | undefined
  private process: ChildProcess | undefined
  private output = ''

  constructor(url: string, metricsUrl: string, args: string[], network?: Network) {
    this.network = network
    this.url = url
    this.metricsUrl = metricsUrl
    this.args = args
  }

  /** Starts a member that was killed at another address, out of its clients' reach. */
  static async beside(member: EtcdMember): Promise<EtcdMember> {
    const [port] = await freePorts(1)
    const url = `http://127.0.0.1:${port}`
    const args = member.args.map(arg => arg.replace(member.url, url))
    const moved = new EtcdMember(url, member.metricsUrl, args)
    moved.start()
    await moved.healthy()
    return moved
  }

  start(): void {
    const [program = '', ...args] = [...(this.network?.command ?? []), 'etcd', ...this.args]
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    child.stderr.on('data', chunk => {
      this.output = `${this.output}${chunk}`.slice(-4_000)
    })
    child.on('error', cause => {
      this.output += String(cause)
    })
    this.process = child
  }

  get pid(): number | undefined {
    return this.process?.pid
  }

  /** The value of one of etcd's own metrics. */
  async metric(name: string): Promise<number> {
    const found = new RegExp(`^${name} (\\S+)$`, 'm').exec(await this.fetch('/metrics'))
    return Number(found?.[1] ?? Number.NaN)
  }

  private get folder(): string {
    return this.argument('data-dir')
  }

  private argument(name: string): string {
    const start = `--${name}=`
    return this.args.find(arg => arg.startsWith(start))?.slice(start.length) ?? ''
  }

  /** Makes data of the snapshot in `file`, as of a cluster of another token; gives back where they are. */
  async restore(file: string, token: string): Promise<string> {
    const folder = `${file}.data`
    const kept = ['name', 'initial-cluster', 'initial-advertise-peer-urls']
    const flags = kept.map(name => `--${name}=${this.argument(name)}`)
    const options = [`--data-dir=${folder}`, `--initial-cluster-token=${token}`, ...flags]
    await run('etcdctl', ['snapshot', 'restore', file, ...options], {
      env: { ...process.env, ETCDCTL_API: '3' },
    })
    return folder
  }

  async healthy(): Promise<void> {
    await until(`etcd at ${this.url} to be healthy`, async () => {
      if (this.process?.exitCode !== null) throw new Error(`etcd exited: ${this.output}`)
      const response = await this.fetch('/health')
      return response.includes('"true"')
    })
  }

  async leads(): Promise<boolean> {
    try {
      return (await this.fetch('/metrics')).includes('\netcd_server_is_leader 1')
    } catch {
      return false
    }
  }

  /** With SIGKILL; start() brings it back on the same data. */
  async kill(): Promise<void> {
    const child = this.process
    this.process = undefined
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
  }

  /** Copies what it has on disk, as a backup of the folder would; gives back where the copy is. */
  async copyData(): Promise<string> {
    const copy = `${this.folder}.copy`
    await cp(this.folder, copy, { recursive: true })
    return copy
  }

  /** Puts other data in place of those of a killed member; gives back where those are now. */
  async swapData(other: string): Promise<string> {
    const aside = `${other}.before`
    await rename(this.folder, aside)
    await rename(other, this.folder)
    return aside
  }

  pause(): void {
    this.process?.kill('SIGSTOP')
  }

  resume(): void {
    this.process?.kill('SIGCONT')
  }

  private async fetch(path: string): Promise<string> {
    const response = await fetch(`${this.metricsUrl}${path}`, { signal: AbortSignal.timeout(500) })
    return response.text()
  }
}

interface MemberPlace {
  name: string
  peerUrl: string
  url: string
  metricsUrl: string
  folder: string
  cluster: string
}

function memberArguments(options: EtcdOptions, place: MemberPlace): string[] {
  const { tls, authTokenTtl, quotaBytes } = options
  const settings: Record<string, string | number | boolean> = {
    name: place.name,
    'data-dir': join(place.folder, place.name),
    'listen-peer-urls': place.peerUrl,
    'initial-advertise-peer-urls': place.peerUrl,
    'listen-client-urls': place.url,
    'advertise-client-urls': place.url,
    'listen-metrics-urls': place.metricsUrl,
    'initial-cluster': place.cluster,
    'initial-cluster-state': 'new',
    'heartbeat-interval': 50,
    'election-timeout': 500,
    'log-level': 'warn',
    logger: 'zap',
  }
  if (authTokenTtl !== undefined) settings['auth-token-ttl'] = authTokenTtl
  if (quotaBytes !== undefined) settings['quota-backend-bytes'] = quotaBytes
  if (tls) {
    Object.assign(settings, {
      'cert-file': tls.certFile,
      'key-file': tls.keyFile,
      'trusted-ca-file': tls.caFile,
      'client-cert-auth': true,
    })
  }
  return Object.entries(settings).map(([name, value]) => `--${name}=${value}`)
}
