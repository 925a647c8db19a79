import { isDeepStrictEqual } from 'node:util'
import type { Reload } from './fields.ts'
import { type Field, valueAt } from './keys.ts'
import type { LoadResult } from './load.ts'
import { formatProblem, type Problem } from './problem.ts'
import type { Config, NodeConfig } from './schema.ts'
import { copyField, plainFields, presentSections, writtenNode, writtenValue } from './values.ts'

/** One key that differs. Values are as a file would have them; secrets are redacted. */
export interface Change {
  /** `proxy.port`; `nodes.<name>` for a node that was added, removed or changed. */
  path: string
  /** Undefined when it was not set. */
  before: unknown
  after: unknown
  reload: Reload
}

/** Every key in which two configurations differ, in the order of the schema. */
export function diffConfig(before: Config, after: Config): Change[] {
  const changes = diffFields(before, after, plainFields)
  return [...changes, ...diffPresence(before, after), ...diffNodes(before.nodes, after.nodes)]
}

/** Those of the fields in which they differ. */
export function diffFields(before: Config, after: Config, among: readonly Field[]): Change[] {
  return changedFields(before, after, among).map(field => ({
    path: field.pattern,
    before: writtenValue(field, before),
    after: writtenValue(field, after),
    reload: field.meta.reload,
  }))
}

/** Sections that came or went without a key in them, such as `tls: {}`. */
function diffPresence(before: Config, after: Config): Change[] {
  const olds = presentSections(before)
  const news = presentSections(after)
  return [...new Set([...olds, ...news])]
    .filter(path => olds.includes(path) !== news.includes(path))
    .map(path => ({
      path,
      before: olds.includes(path) ? {} : undefined,
      after: news.includes(path) ? {} : undefined,
      reload: 'restart',
    }))
}

/** What a reload does: `applied` is what counts from now on. */
export interface ReloadPlan {
  applied: Config
  live: Change[]
  /** Keys whose new value waits for the next start. */
  restart: Change[]
  /** When there are any, nothing is applied. */
  problems: Problem[]
}

/** Takes over what may change while running. When anything is wrong, everything stays as it is. */
export function planReload(current: Config, loaded: LoadResult): ReloadPlan {
  if (!loaded.ok) return { applied: current, live: [], restart: [], problems: loaded.problems }
  const changes = diffConfig(current, loaded.config)
  const applied = structuredClone(current)
  applied.nodes = structuredClone(loaded.config.nodes)
  for (const field of changedFields(current, loaded.config, plainFields)) {
    if (field.meta.reload === 'live') copyField(applied, field, loaded.config)
  }
  return {
    applied,
    live: changes.filter(({ reload }) => reload === 'live'),
    restart: changes.filter(({ reload }) => reload === 'restart'),
    problems: [],
  }
}

/** The plan as sentences for the log and for people, one a change. */
export function reloadReport(plan: ReloadPlan): string[] {
  if (plan.problems.length > 0) {
    const count = plan.problems.length === 1 ? '1 problem' : `${plan.problems.length} problems`
    return [`nothing was applied: the configuration has ${count}`, ...plan.problems.map(formatProblem)]
  }
  if (plan.live.length + plan.restart.length === 0) return ['the configuration has not changed']
  return [
    ...plan.live.map(change => `applied: ${changeSentence(change)}`),
    ...plan.restart.map(change => `needs a restart: ${changeSentence(change)}`),
  ]
}

/** `proxy.lanes changed from on to off`. */
export function changeSentence({ path, before, after }: Change): string {
  if (before === undefined) return `${path} set to ${shown(after)}`
  if (after === undefined) return `${path} removed, was ${shown(before)}`
  if (isDeepStrictEqual(before, after)) return `${path} changed`
  return `${path} changed from ${shown(before)} to ${shown(after)}`
}

function shown(value: unknown): string {
  return typeof value === 'string' && /^[\w./:[\]-]+$/.test(value) ? value : JSON.stringify(value)
}

function changedFields(before: Config, after: Config, among: readonly Field[]): Field[] {
  return among.filter(({ pattern }) => {
    const path = pattern.split('.')
    return !isDeepStrictEqual(valueAt(before, path), valueAt(after, path))
  })
}

function diffNodes(before: readonly NodeConfig[], after: readonly NodeConfig[]): Change[] {
  const olds = new Map(before.map(node => [node.name, node]))
  const news = new Map(after.map(node => [node.name, node]))
  const names = [...new Set([...olds.keys(), ...news.keys()])]
  return names.flatMap(name => {
    const [old, renewed] = [olds.get(name), news.get(name)]
    if (isDeepStrictEqual(old, renewed)) return []
    const change: Change = {
      path: `nodes.${name}`,
      before: old && writtenNode(old),
      after: renewed && writtenNode(renewed),
      reload: 'live',
    }
    return [change]
  })
}
