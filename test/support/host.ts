import { Host } from '../../src/cli/host.ts'
import { operationsBy } from '../../src/cli/operations.ts'
import { readFileFromDisk } from '../../src/config/files.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Config } from '../../src/config/schema.ts'
import { createLogger } from '../../src/runtime/log.ts'
import type { Operations } from '../../src/topology/intent-change.ts'
import { freePorts } from './ports.ts'
import { until } from './wait.ts'

/** A configuration on free ports: an agentless proxy with a store in memory in front of the given servers. */
export async function testConfig(
  servers: { name: string; port: number }[],
  overrides: Record<string, unknown> = {},
): Promise<Config> {
  const [port, readPort, adminPort] = await freePorts(3)
  const all: Record<string, unknown> = {
    'store.path': ':memory:',
    'log.level': process.env['PGHERD_TEST_LOG'] ?? 'silent',
    'proxy.port': port,
    'proxy.read_port': readPort,
    'proxy.workers': 2,
    'proxy.shutdown_timeout': '1s',
    'probe.interval': '200ms',
    'admin.port': adminPort,
    nodes: servers.map(({ name, port }) => ({ name, host: '127.0.0.1', port })),
    ...overrides,
  }
  const loaded = loadConfig({
    text: '',
    file: undefined,
    env: {},
    overrides: Object.fromEntries(Object.entries(all).map(([key, value]) => [key, { value, flag: key }])),
    readFile: readFileFromDisk,
    hostName: 'test',
  })
  if (!loaded.ok) throw new Error(loaded.problems.map(problem => problem.message).join('\n'))
  return loaded.config
}

/**
 * Waits until there is a primary to write to and every server was asked, of which those that answer have their use, and
 * the data workers know it.
 */
export async function untilRolesAreKnown(host: Host): Promise<void> {
  await until('the roles are known', () => {
    const { nodes } = host.watcher.current()
    const isUsed = nodes.every(
      node => node.source !== 'none' && (!node.accepting || node.writable || node.readable),
    )
    return isUsed && nodes.some(node => node.writable) && (host.proxy?.isCurrent ?? true)
  })
}

/** Makes changes of the intent in the store of a host, as an operator would. */
export function operationsOn(host: Host): Operations {
  return operationsBy('test', host.store, host.config.cluster)
}

/** Starts the proxy of a configuration in this process; its data workers are processes of their own. */
export function startTestHost(
  config: Config,
  parts = { agent: false, proxy: true, admin: true },
): Promise<Host> {
  const write = (line: string): void => void process.stderr.write(line)
  const log = createLogger({ level: config.log.level, format: 'text', write })
  return Host.start({ config, origins: new Map(), parts, log, writeLog: write, logFormat: 'text' })
}
