import type { Lsn } from '../topology/types.ts'

/** The parameters that health paths understand; the names and forms are those of Patroni's REST API. */
export interface HealthQuery {
  /** `lag=`: most bytes behind the primary. */
  lagBytesMax: number | undefined
  /** `replication_state=`: what the WAL receiver must say. */
  replicationState: string | undefined
  /** `tag_<key>=<value>`: tags the node must have. */
  tags: [key: string, value: string][]
  /** `mode=`: whether WAL must be replayed (`apply`) or only received (`write`). */
  mode: 'apply' | 'write'
}

/** A parameter that cannot be understood; the message says which and what is accepted. */
export class HealthQueryError extends Error {
  readonly code = 'bad_parameter'
}

/** PostgreSQL's own units, in its own spelling. */
const unitBytes: Record<string, number> = { B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 }

/** Bytes as a plain number or with a unit: `1048576`, `16MB`, `1.5 GB`. Undefined when it is neither. */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d{1,15}(?:\.\d{1,6})?)\s*([kMGT]?B)?\s*$/.exec(text)
  if (!match) return undefined
  return Math.round(Number(match[1]) * unitBytes[match[2] ?? 'B']!)
}

export function parseHealthQuery(parameters: URLSearchParams): HealthQuery {
  const query: HealthQuery = { lagBytesMax: undefined, replicationState: undefined, tags: [], mode: 'apply' }
  for (const [name, value] of parameters) {
    if (name === 'lag') {
      query.lagBytesMax = parseBytes(value)
      if (query.lagBytesMax === undefined)
        throw new HealthQueryError(
          `lag: ${quoted(value)} is not a size; use bytes or a unit, such as 1048576 or 16MB`,
        )
    } else if (name === 'mode') {
      if (value !== 'apply' && value !== 'write')
        throw new HealthQueryError(`mode: ${quoted(value)} is not known; use apply or write`)
      query.mode = value
    } else if (name === 'replication_state') {
      if (value === '') throw new HealthQueryError('replication_state: is empty; use for example streaming')
      query.replicationState = value
    } else if (name.startsWith('tag_')) {
      if (name === 'tag_')
        throw new HealthQueryError('tag_: the name of the tag is missing; use tag_<name>=<value>')
      query.tags.push([name.slice('tag_'.length), value])
    }
  }
  return query
}

/** How far behind `primaryLsn` a position is; undefined when either is not known. */
export function bytesBehind(primaryLsn: Lsn | undefined, position: Lsn | undefined): number | undefined {
  if (primaryLsn === undefined || position === undefined) return undefined
  return Math.max(0, primaryLsn - position)
}

function quoted(value: string): string {
  return JSON.stringify(value.slice(0, 40))
}
