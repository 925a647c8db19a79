import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { readFailure } from '../config/files.ts'
import { systemRandom } from '../runtime/random.ts'
import type { Proof } from '../store/access.ts'
import { CommandError, type CommandIo } from './output.ts'

/** Where the passwords of new etcd users come from. None is ever an argument of a command. */
export type PasswordSource =
  /** There are none: users prove who they are by client certificates. */
  | { kind: 'certificates' }
  /** A file for each user, named as the user; made with a random password where there is none. */
  | { kind: 'folder'; path: string }
  /** A file for the one user. */
  | { kind: 'file'; path: string }
  /** `PGHERD_NEW_PASSWORD`, else whoever sits at the terminal. */
  | { kind: 'ask' }

/** The password for a user that is about to be made; undefined when it gets none. */
export async function newPassword(
  io: CommandIo,
  source: PasswordSource,
  user: string,
): Promise<string | undefined> {
  switch (source.kind) {
    case 'certificates':
      return undefined
    case 'folder':
      return fileInFolder(io, source.path, user)
    case 'file':
      return passwordIn(io, source.path)
    case 'ask':
      return io.env['PGHERD_NEW_PASSWORD'] || askTwice(io, user)
    default:
      return source satisfies never
  }
}

/** How `etcdctl` is to come by the same. */
export function proofOf(source: PasswordSource, user: string): Proof {
  if (source.kind === 'certificates') return { kind: 'certificate' }
  if (source.kind === 'folder') return { kind: 'file', path: join(resolve(source.path), user) }
  return source.kind === 'file' ? { kind: 'file', path: resolve(source.path) } : { kind: 'ask' }
}

/** 192 random bits. */
function randomPassword(): string {
  return systemRandom.bytes(24).toString('base64url')
}

async function fileInFolder(io: CommandIo, folder: string, user: string): Promise<string> {
  const path = join(folder, user)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await writeFile(path, `${randomPassword()}\n`, { flag: 'wx', mode: 0o600 })
  } catch (cause) {
    const isThere = cause instanceof Error && 'code' in cause && cause.code === 'EEXIST'
    if (!isThere) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new CommandError('failed', `the password of ${user} cannot be kept: ${reason}`, {
        cause,
        hint: 'name a folder that this user may write to',
      })
    }
  }
  return passwordIn(io, path)
}

function passwordIn(io: CommandIo, path: string): string {
  let text: string
  try {
    ;({ text } = io.readFile(path))
  } catch (cause) {
    throw new CommandError('failed', `the password file ${path} ${readFailure(cause)}`, { cause })
  }
  const password = text.replace(/\r?\n$/, '')
  if (password === '') throw new CommandError('failed', `the password file ${path} is empty`)
  return password
}

async function askTwice({ askSecret }: CommandIo, user: string): Promise<string> {
  if (!askSecret) {
    throw new CommandError('usage', `there is no password for ${user}`, {
      hint: 'name a file with --password-file, set PGHERD_NEW_PASSWORD, or say --certificate',
    })
  }
  const password = await askSecret(`password for ${user}: `)
  if (password === '') throw new CommandError('failed', 'the password is empty')
  if ((await askSecret('again: ')) === password) return password
  throw new CommandError('failed', 'the two are not the same: nothing was done')
}
