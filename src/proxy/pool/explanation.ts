import type { NodeChoice } from '../../routing/explain.ts'
import type { LaneRefusal } from '../lanes/counters.ts'

/** Why a statement goes where it goes, as data; `lines` make it readable. */
export interface Explanation {
  /** Whether it is known to only read. */
  reads: boolean
  /** Why not, as a word of `pgherd_lane_refused_total`; undefined when it reads. */
  refusal: LaneRefusal | undefined
  /** The same as a sentence. */
  sentence: string | undefined
  consistency: string
  /** Whether reads of this client are split at all. */
  splits: boolean
  route: 'primary' | 'replica'
  /** What the node is that it goes to: the primary where reads have no replica. */
  role: 'primary' | 'replica'
  /** Undefined while there is none. */
  node: string | undefined
  why: string
  nodes: NodeChoice[]
}

/** The explanation in lines of text, as PostgreSQL gives a plan. */
export function linesOf({ consistency, node, nodes, role, sentence, why }: Explanation): string[] {
  return [
    `The statement ${sentence ?? 'only reads'}`,
    `Consistency: ${consistency}`,
    `Goes to the ${role}${node === undefined ? '' : ` ${node}`}: ${why}`,
    ...nodes.map(lineOf),
  ]
}

function lineOf({ isCandidate, node, parts, reasons, score }: NodeChoice): string {
  const figures = parts
    ? `share ${percent(parts.share)}, clients ${parts.clients}, ${parts.latencyMs.toFixed(1)} ms, ` +
      `${parts.slowdown.toFixed(1)} times its usual`
    : undefined
  const scored = score === undefined ? undefined : `score ${score.toFixed(2)}`
  const told = [isCandidate ? 'candidate' : 'no candidate', scored, figures, ...reasons]
  return `  ${node}: ${told.filter(part => part !== undefined).join('; ')}`
}

const percent = (part: number): string => `${Math.round(part * 100)} %`

const sentences: Partial<Record<LaneRefusal, string>> = {
  form: 'it is not one statement by itself',
  session: 'the session has something that only its own connection has, or an encoding that is not read',
  unknown: 'it was not seen often enough, or the parser is still loading',
  facts_missing: 'nothing is known of the functions and tables of this database yet',
  several: 'it is more than one statement',
  not_read: 'it is no SELECT, VALUES or TABLE that only reads',
  locking: 'it locks rows',
  into: 'it makes a table',
  unreadable: 'it cannot be parsed',
  too_long: 'it is too long',
  unknown_node: 'it uses grammar whose meaning is not known here',
  unusual_name: 'it has a name with other characters than ASCII',
  volatile_implicit: 'the database has an implicit cast or comparison that is volatile',
  function_unknown: 'it calls a function that is not known',
  function_volatile: 'it calls a function that is volatile',
  operator_unknown: 'it uses an operator that is not known',
  operator_volatile: 'it uses an operator that is volatile',
  type_volatile: 'it casts to a type whose input is volatile',
  relation_unknown: 'it names a table that is not known',
  relation_volatile: 'it names a table with a column of a volatile type',
  policy_volatile: 'it names a table with a policy that is volatile',
  view_volatile: 'it names a view that is volatile',
  foreign_table: 'it names a foreign table',
  system_view: 'it names a view of the system, which tells of one server',
  sequence: 'it names a sequence',
  session_effects: 'it may leave something behind in its session',
}

export function sentenceOf(refusal: LaneRefusal | undefined): string | undefined {
  return refusal === undefined ? undefined : `is not known to only read: ${sentences[refusal] ?? refusal}`
}
