import { join } from 'node:path'
import { type FileContent, readFileFromDisk } from '../../src/config/files.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Problem } from '../../src/config/problem.ts'
import type { Contestant, Setup } from './contestant.ts'

export interface PgherdBuild {
  /** `pgherd`, or the name of a variant. */
  name: string
  version: string
  /** Its compiled `main.js`. */
  main: string
  /** Differs from the defaults: values by dotted key, such as `proxy.lanes`. */
  settings: Record<string, unknown>
  /** Options for Node.js, such as `--cpu-prof`. */
  nodeOptions: readonly string[]
}

/** pgherd with its defaults, but for the limits that are the same for all. */
export function pgherd(build: PgherdBuild): Contestant {
  return {
    name: build.name,
    title: build.name,
    version: build.version,
    checksPasswords: true,
    isSubject: true,
    asServerAccount: false,
    balances: true,
    launch: setup => ({
      files: { 'pgherd.json': `${JSON.stringify(configOf(build, setup), null, 2)}\n` },
      command: [
        process.execPath,
        ...build.nodeOptions,
        build.main,
        'up',
        '--config',
        join(setup.dir, 'pgherd.json'),
      ],
    }),
  }
}

const nodeNames = 'abcdefgh'

function configOf(build: PgherdBuild, setup: Setup): Record<string, unknown> {
  const [first, second, adminPort] = setup.ports
  // Clients come to the first one, whatever it is for.
  const [port, readPort] = setup.replicaPorts.length > 0 ? [second, first] : [first, second]
  const servers = [setup.serverPort, ...setup.replicaPorts]
  const method = setup.login === 'scram' ? 'scram-sha-256' : 'trust'
  const config: Record<string, unknown> = {
    store: { path: ':memory:' },
    log: { level: 'warn' },
    admin: { port: adminPort },
    nodes: servers.map((each, at) => ({ name: nodeNames[at], host: '127.0.0.1', port: each })),
    proxy: {
      port,
      read_port: readPort,
      default_pool_size: setup.poolSize,
      max_client_conn: setup.clientsMax,
      ...(setup.workers !== undefined && { workers: setup.workers }),
      auth: {
        method: 'proxy',
        users_file: setup.usersFile,
        rules: [{ type: 'host', database: 'all', user: 'all', address: 'all', method }],
      },
    },
  }
  for (const [key, value] of Object.entries(build.settings)) setDotted(config, key.split('.'), value)
  return config
}

/** Stands for whatever the setup will be. */
const sample: Setup = {
  dir: '',
  ports: [1, 2, 3],
  serverPort: 4,
  replicaPorts: [],
  usersFile: 'users',
  verifier: '',
  poolSize: 1,
  clientsMax: 1,
  login: 'trust',
  keepsStatements: false,
  workers: undefined,
}

/** What is wrong with the settings of a variant, in the configuration that they are run with. */
export function problemsOf(settings: Record<string, unknown>): Problem[] {
  const text = JSON.stringify(
    configOf({ name: 'pgherd', version: '', main: '', settings, nodeOptions: [] }, sample),
  )
  const readFile = (path: string): FileContent =>
    path === sample.usersFile ? { text: '', mode: 0o600 } : readFileFromDisk(path)
  const loaded = loadConfig({ text, file: undefined, env: {}, readFile, hostName: 'bench' })
  return loaded.ok ? [] : loaded.problems
}

function setDotted(target: Record<string, unknown>, [key, ...rest]: string[], value: unknown): void {
  if (rest.length === 0) {
    target[key!] = value
    return
  }
  if (typeof target[key!] !== 'object') target[key!] = {}
  setDotted(target[key!] as Record<string, unknown>, rest, value)
}
