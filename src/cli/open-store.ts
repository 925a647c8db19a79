import { isAbsolute, resolve } from 'node:path'
import type { Config } from '../config/schema.ts'
import { systemClock } from '../runtime/clock.ts'
import { type Logger, silentLogger } from '../runtime/log.ts'
import { systemRandom } from '../runtime/random.ts'
import { systemTimers } from '../runtime/timers.ts'
import { type EmbeddedStore, openEmbeddedStore } from '../store/embedded.ts'
import type { EtcdStoreOptions } from '../store/etcd.ts'
import type { EtcdAccess } from '../store/etcd-access.ts'
import { openRemoteStore } from '../store/remote.ts'
import type { Store } from '../store/store.ts'

const primitives = { clock: systemClock, timers: systemTimers, random: systemRandom }

/** A store that this process has open; `embedded` when the store is its own. */
export interface OwnedStore {
  store: Store
  embedded: EmbeddedStore | undefined
}

/** Opens the store that a configuration names, for a process that stays. */
export async function openStore(config: Config, log: Logger): Promise<OwnedStore> {
  const { store } = config
  if (store.kind === 'etcd') return { store: await openEtcd(config, log), embedded: undefined }
  const embedded = await openEmbeddedStore({ path: embeddedPath(store.path), log, ...primitives })
  return { store: embedded, embedded }
}

/**
 * Opens the store for a command that ends soon. The embedded store belongs to the process that runs it, so a
 * command talks to that one's admin interface.
 */
export async function openStoreForCommand(config: Config, adminUrl: string, log: Logger): Promise<Store> {
  if (config.store.kind === 'etcd') return openEtcd(config, log)
  return openRemoteStore({ url: adminUrl, token: config.admin.token, log, ...primitives })
}

/** The folder of the embedded store; undefined keeps it in memory. */
function embeddedPath(path: string): string | undefined {
  if (path === ':memory:') return undefined
  return isAbsolute(path) ? path : resolve(path)
}

async function openEtcd(config: Config, log: Logger): Promise<Store> {
  // gRPC takes longer to load than most commands take to run.
  const { openEtcdStore } = await import('../store/etcd.ts')
  return openEtcdStore(etcdOptions(config, log))
}

/** Opens the users and roles of the etcd cluster that a configuration names. */
export async function openAccess(config: Config): Promise<EtcdAccess> {
  const { openEtcdAccess } = await import('../store/etcd-access.ts')
  return openEtcdAccess(etcdOptions(config, silentLogger))
}

function etcdOptions({ store }: Config, log: Logger): EtcdStoreOptions {
  const { tls } = store
  return {
    endpoints: store.endpoints,
    user: store.user,
    password: store.password,
    tls: tls && {
      caFile: tls.ca_file,
      certFile: tls.cert_file,
      keyFile: tls.key_file,
      serverName: tls.server_name,
    },
    requestTimeoutMs: store.request_timeout,
    log,
    ...primitives,
  }
}
