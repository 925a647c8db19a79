import { availableParallelism } from 'node:os'
import { programPath } from '../test/support/need.ts'
import { runProgram } from './command.ts'

/**
 * Which processors do what. `shared`: everything runs everywhere, as on a machine of few processors. `apart`: the
 * contestants share the first one, and PostgreSQL and the load have the others, so that the proxies alone are compared.
 */
export type Placement = 'shared' | 'apart'

const processors = availableParallelism()

/** Whether this machine can keep them apart. */
export const canPlaceApart = processors > 1 && programPath('taskset') !== undefined

/** Moves PostgreSQL, and this process with the load that it starts, to where they belong. */
export async function place(placement: Placement, pids: readonly number[]): Promise<void> {
  if (!canPlaceApart) return
  const first = placement === 'apart' ? 1 : 0
  for (const pid of pids) await runProgram('taskset', ['-acp', `${first}-${processors - 1}`, String(pid)])
}

/** The command that starts a contestant where it belongs. */
export function placed(placement: Placement, command: readonly string[]): readonly string[] {
  return placement === 'apart' && canPlaceApart ? ['taskset', '-c', '0', ...command] : command
}
