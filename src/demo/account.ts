import { lchown, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { baseEnvironment, type Identity, runCommand } from '../runtime/process.ts'

/** The operating system account that the servers run as. */
export interface Account {
  name: string
  /** Set when this process is root and the servers must run as somebody else. */
  identity: Identity | undefined
}

/**
 * Who runs the servers: PostgreSQL refuses to run as root, so there it is `postgres` or, where no such account
 * exists, `nobody`; otherwise whoever runs this process.
 */
export async function serverAccount(): Promise<Account> {
  if (process.getuid?.() !== 0) return { name: 'this user', identity: undefined }
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = await Promise.all([accountId('-u', name), accountId('-g', name)])
    if (uid !== undefined && gid !== undefined) return { name, identity: { uid, gid } }
  }
  return { name: 'nobody', identity: { uid: 65534, gid: 65534 } }
}

async function accountId(flag: '-u' | '-g', name: string): Promise<number | undefined> {
  const result = await runCommand({ command: 'id', args: [flag, name], env: baseEnvironment() }, 5000)
  const id = Number(result.tail[0])
  return result.code === 0 && Number.isInteger(id) ? id : undefined
}

/** Whether the account may run this program with these arguments; false as well when there is no such program. */
export async function canRun(account: Account, command: string, args: string[]): Promise<boolean> {
  const result = await runAs(account, command, args).catch(() => undefined)
  return result?.code === 0
}

/** Whether the account may enter this folder. */
export function canEnter(account: Account, folder: string): Promise<boolean> {
  return canRun(account, '/bin/sh', ['-c', 'cd "$0"', folder])
}

/** Runs a short program as the account, in a folder that everyone may enter. */
export function runAs(account: Account, command: string, args: string[], limitMs = 10_000) {
  const { identity } = account
  return runCommand({ command, args, env: baseEnvironment(), cwd: '/', identity }, limitMs)
}

/** Makes the account the owner of a file or of a folder with all that is in it, where it is not this user. */
export async function giveTo(account: Account, path: string): Promise<void> {
  const { identity } = account
  if (!identity) return
  const entries = await readdir(path, { recursive: true }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOTDIR') return []
    throw cause
  })
  for (const entry of ['', ...entries]) await lchown(join(path, entry), identity.uid, identity.gid)
}
