// The programs that tests run beside Node.js. As root on a system with apt, what is missing is installed; elsewhere
// it is named, and the tests that need it say that they are skipped.
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { runQuietly } from './support.mjs'

const programs = [
  { name: 'etcd', debian: 'etcd-server' },
  { name: 'etcdctl', debian: 'etcd-client' },
  { name: 'haproxy', debian: 'haproxy' },
  { name: 'pgbouncer', debian: 'pgbouncer' },
  { name: 'keepalived', debian: 'keepalived' },
  { name: 'psql', debian: 'postgresql-client' },
  { name: 'pgbench', debian: 'postgresql-contrib' },
  { name: 'openssl', debian: 'openssl' },
]

const installLimitMs = 300_000

/** Never fails: tests decide for themselves what a missing program means. */
export async function ensureTestTools() {
  const missing = programs.filter(({ name }) => !isInstalled(name))
  if (missing.length === 0) return
  const packages = missing.map(({ debian }) => debian)
  const names = missing.map(({ name }) => name).join(', ')
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    console.error(
      `tests that need ${names} will be skipped; on Debian or Ubuntu: apt-get install ${packages.join(' ')}`,
    )
    return
  }
  console.error(`installing for the tests: ${packages.join(' ')}`)
  const problem = await withoutServices(() => install(packages)).catch(cause => cause.message)
  const still = missing.filter(({ name }) => !isInstalled(name)).map(({ name }) => name)
  if (still.length === 0) return
  console.error(
    `tests that need ${still.join(', ')} will be skipped, they could not be installed: ${problem}`,
  )
}

function isInstalled(name) {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin']
  return folders.some(folder => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Installs one by one if not all can be had together. Returns what apt said last when that failed. */
async function install(packages) {
  const options = {
    timeout: installLimitMs,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', UCF_FORCE_CONFFOLD: '1' },
  }
  const get = (...args) =>
    runQuietly(
      'apt-get',
      ['-q', '-y', '-o', 'Dpkg::Options::=--force-confold', '-o', 'DPkg::Lock::Timeout=120', ...args],
      options,
    )
  await get('update')
  let result = await get('install', '--no-install-recommends', ...packages)
  if (result.code !== 0) {
    for (const name of packages) result = await get('install', '--no-install-recommends', name)
  }
  return result.output.trimEnd().split('\n').at(-1) ?? ''
}

/** Keeps packages from starting services or making a database of their own meanwhile, then restores both files. */
async function withoutServices(work) {
  const restore = [
    putFile('/usr/sbin/policy-rc.d', '#!/bin/sh\nexit 101\n', 0o755),
    putFile('/etc/postgresql-common/createcluster.conf', 'create_main_cluster = false\n', 0o644),
  ]
  const restoreAll = () => restore.forEach(each => each())
  const onSignal = () => {
    restoreAll()
    process.exit(130)
  }
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    return await work()
  } finally {
    process.removeListener('SIGINT', onSignal).removeListener('SIGTERM', onSignal)
    restoreAll()
  }
}

/** Writes a file and returns the function that puts back what was there. */
function putFile(path, text, mode) {
  const before = existsSync(path) ? { text: readFileSync(path), mode: statSync(path).mode } : undefined
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  chmodSync(path, mode)
  return () => {
    if (!before) {
      rmSync(path, { force: true })
      return
    }
    writeFileSync(path, before.text)
    chmodSync(path, before.mode)
  }
}
