import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where `name` stands in PATH (or the folders that a plain user's PATH leaves out), or undefined. */
export function programPath(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return folders.map(folder => join(folder, name)).find(isExecutable)
}

/**
 * What a suite passes on as its options when it needs a program that may be missing: skipped by name with the
 * reason, or with CI=true a failure.
 */
export function need(...programs: string[]): { skip: string | false } {
  const missing = programs.filter(program => !programPath(program))
  if (missing.length === 0) return { skip: false }
  return { skip: mayLack(`${missing.join(', ')} not found in PATH`) }
}

/** A reason to skip for something that is missing; with CI=true nothing may be missing. */
export function mayLack(reason: string): string {
  if (process.env['CI'] === 'true') throw new Error(`this run must not skip tests, but: ${reason}`)
  return reason
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
