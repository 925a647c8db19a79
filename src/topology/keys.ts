/** The names of a cluster's keys in the store. One place, so that grants and watches can be derived from it. */
export interface Keys {
  /** Everything of the cluster. */
  root: string
  intent: string
  nodeIntents: string
  nodeStatuses: string
  proxyStatuses: string
  settings: string
  /** Bumped by every change of the intent, so that changes are made one after the other. */
  generation: string
  history: string
  leader: string
  nodeIntent(name: string): string
  nodeStatus(name: string): string
  proxyStatus(id: string): string
  /** By the number of the change, which is what `generation` holds after it. */
  historyEntry(change: number): string
}

export function keysOf(cluster: string): Keys {
  const root = `/pgherd/${cluster}/`
  return {
    root,
    intent: `${root}intent/`,
    nodeIntents: `${root}intent/nodes/`,
    nodeStatuses: `${root}status/nodes/`,
    proxyStatuses: `${root}status/proxies/`,
    settings: `${root}intent/settings`,
    generation: `${root}intent/generation`,
    history: `${root}intent/history/`,
    leader: `${root}leader`,
    nodeIntent: name => `${root}intent/nodes/${name}`,
    nodeStatus: name => `${root}status/nodes/${name}`,
    proxyStatus: id => `${root}status/proxies/${id}`,
    // Padded, so that a listing comes in the order of the changes.
    historyEntry: change => `${root}intent/history/${String(change).padStart(16, '0')}`,
  }
}
