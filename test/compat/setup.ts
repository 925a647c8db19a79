import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Host } from '../../src/cli/host.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { type CompatMode, compatModes } from './modes.ts'

/** One PostgreSQL, and in front of it a proxy for each mode. */
export interface CompatServers {
  cluster: TestCluster
  targets: CompatTarget[]
  stop(): Promise<void>
}

export interface CompatTarget {
  mode: CompatMode
  port: number
}

/** A role that logs in with SCRAM, unlike `postgres`, which is let in without a password. */
export const scramUser = 'compat_scram'
/** A role whose password is kept as an md5 hash and asked for that way. */
export const md5User = 'compat_md5'
export const password = "it's %41 secret/:@"

export async function startCompatServers(): Promise<CompatServers> {
  const cluster = await startTestCluster({ settings: { max_connections: '300' } })
  const hosts: Host[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(hosts.map(host => host.stop()))
    await cluster.stop()
  }
  try {
    await addRoles(cluster)
    const targets: CompatTarget[] = []
    for (const mode of compatModes()) targets.push({ mode, port: await startTarget(mode) })
    return { cluster, targets, stop }
  } catch (cause) {
    await stop()
    throw cause
  }

  async function startTarget(mode: CompatMode): Promise<number> {
    const { name, port } = cluster.primary
    if (!mode.settings) return port
    const config = await testConfig([{ name, port }], { 'proxy.read_port': 0, ...mode.settings })
    const host = await startTestHost(config)
    hosts.push(host)
    await untilRolesAreKnown(host)
    return config.proxy.port
  }
}

async function addRoles({ primary }: TestCluster): Promise<void> {
  const quoted = `'${password.replaceAll("'", "''")}'`
  await primary.query(
    `set password_encryption = 'scram-sha-256';
     create role ${scramUser} superuser login password ${quoted};
     set password_encryption = 'md5';
     create role ${md5User} superuser login password ${quoted}`,
  )
  const file = join(primary.folder, 'pg_hba.conf')
  const rules = `host all ${scramUser} all scram-sha-256\nhost all ${md5User} all md5\n`
  await writeFile(file, rules + (await readFile(file, 'utf8')))
  await primary.query('select pg_reload_conf()')
}

/** A connection URL for a role, with its password where it has one. */
export function urlOf(port: number, user = 'postgres'): string {
  const secret = user === 'postgres' ? '' : `:${encodeURIComponent(password)}`
  return `postgresql://${user}${secret}@127.0.0.1:${port}/postgres`
}
