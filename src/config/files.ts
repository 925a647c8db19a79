import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

/** A file as the configuration reads it. */
export interface FileContent {
  text: string
  /** Permission bits. */
  mode: number
}

/** Reads a whole file. Throws the errors of `node:fs`. */
export type ReadFile = (path: string) => FileContent

export const readFileFromDisk: ReadFile = path => ({
  text: readFileSync(path, 'utf8'),
  mode: statSync(path).mode & 0o777,
})

/** Whether every user of the machine may read a file of this mode. */
export function isWorldReadable(mode: number): boolean {
  return (mode & 0o004) !== 0
}

/** Why a file could not be read, to follow its name: "does not exist". */
export function readFailure(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'does not exist'
    case 'EACCES':
    case 'EPERM':
      return 'may not be read by this user'
    case 'EISDIR':
      return 'is a folder'
    default:
      return `cannot be read (${typeof code === 'string' ? code : 'unknown error'})`
  }
}

/** A path in a configuration file is meant from the folder of that file. */
export function resolveBeside(file: string, path: string): string {
  return resolve(dirname(file), path)
}
