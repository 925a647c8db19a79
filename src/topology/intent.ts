import type { Entry, Store } from '../store/store.ts'
import { decodeHistory, decodeNodeIntent, decodeNodeStatus, decodeSettings } from './codec.ts'
import { fleetValues } from './fleet-settings.ts'
import { type Keys, keysOf } from './keys.ts'
import type { FleetSettings, HistoryEntry, NodeIntent, NodeStatus } from './types.ts'

/** A change of the intent as it stands in the store. */
export interface Recorded {
  /** 1 for the first change of a cluster, and one more for each after it. */
  change: number
  /** Store revision of the change. */
  revision: number
  entry: HistoryEntry
  /** Characters of the entry in the store. */
  size: number
}

/** What operators want of a cluster, and what the checks of a change need besides; all of one revision. */
export interface Intent {
  nodes: Map<string, NodeIntent>
  statuses: Map<string, NodeStatus>
  settings: FleetSettings | undefined
  /** What the settings say, by key. */
  values: Record<string, unknown>
  /** Why the settings cannot be read; then nothing can be set. */
  settingsProblem: string | undefined
  /** Number of the newest change, 0 before the first. */
  change: number
  /** Store revision of the newest change, 0 before the first. */
  revision: number
  /** The newest changes, as far as they are kept and understood, the oldest first. */
  history: Recorded[]
  /** Store revision at which a key of the intent has changed last, by key. */
  revisions: Map<string, number>
}

export async function readIntent(store: Store, cluster: string): Promise<Intent> {
  const keys = keysOf(cluster)
  const { entries } = await store.list(keys.root)
  const intent: Intent = {
    nodes: new Map(),
    statuses: new Map(),
    settings: undefined,
    values: {},
    settingsProblem: undefined,
    change: 0,
    revision: 0,
    history: [],
    revisions: new Map(entries.map(({ key, modRevision }) => [key, modRevision])),
  }
  for (const entry of entries) take(intent, keys, entry)
  return intent
}

function take(intent: Intent, keys: Keys, { key, value, modRevision }: Entry): void {
  if (key.startsWith(keys.nodeIntents)) {
    const node = decodeNodeIntent(value).value
    if (node) intent.nodes.set(key.slice(keys.nodeIntents.length), node)
  } else if (key.startsWith(keys.nodeStatuses)) {
    const status = decodeNodeStatus(value).value
    if (status) intent.statuses.set(key.slice(keys.nodeStatuses.length), status)
  } else if (key.startsWith(keys.history)) {
    const entry = decodeHistory(value).value
    const change = Number(key.slice(keys.history.length))
    if (entry) intent.history.push({ change, revision: modRevision, entry, size: value.length })
  } else if (key === keys.settings) {
    const { value: settings, problem } = decodeSettings(value)
    intent.settings = settings
    intent.values = fleetValues(settings)
    intent.settingsProblem = problem
  } else if (key === keys.generation) {
    intent.change = Number(value) || 0
    intent.revision = modRevision
  }
}

/** Nodes and settings as they were after one of the changes that are kept, or before the oldest of them. */
export interface Snapshot {
  nodes: Map<string, NodeIntent>
  values: Record<string, unknown>
}

/** Number of the oldest state that `snapshotAt` knows: a change that is not understood hides those before it. */
export function oldestSnapshot({ change, history }: Intent): number {
  let oldest = change
  for (const recorded of history.toReversed()) {
    if (recorded.change !== oldest) break
    oldest--
  }
  return oldest
}

/** What was wanted after that change. Undefined where its number is not known, any more or yet. */
export function snapshotAt(intent: Intent, change: number): Snapshot | undefined {
  if (!Number.isInteger(change) || change < oldestSnapshot(intent) || change > intent.change) return undefined
  const nodes = new Map(intent.nodes)
  const values = new Map(Object.entries(intent.values))
  for (const recorded of intent.history.toReversed()) {
    if (recorded.change <= change) break
    for (const [name, { before }] of Object.entries(recorded.entry.nodes)) {
      if (before) nodes.set(name, before)
      else nodes.delete(name)
    }
    for (const [key, { before }] of Object.entries(recorded.entry.settings)) {
      if (before === null || before === undefined) values.delete(key)
      else values.set(key, before)
    }
  }
  return { nodes, values: Object.fromEntries(values) }
}
