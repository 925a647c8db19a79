/**
 * What the demo's supervisor does about its servers. Pure: from what was just seen of every server to the leader
 * and to actions, each with its reason as a sentence for people.
 */

export interface ServerFacts {
  name: string
  /** Whether a server process runs on its folder, started from here or by hand. */
  running: boolean
  /** As it said itself while running, as its folder says while it is down. */
  role: 'primary' | 'replica'
  /** Of a running primary, as last seen. */
  timeline: number
  /** Name of the server it is set to stream from. */
  follows: string | undefined
  /** While it is down: whether it ended by itself, or somebody stopped it. */
  ended: 'crashed' | 'stopped' | undefined
  /** Whether it has been down since it last was leader or replica. */
  cameBack: boolean
  /** Why it can never stream again, in its own words. */
  brokenStream: string | undefined
  /** Whether an earlier action on it is still under way. */
  busy: boolean
  /** Not to be started or made anew before this time. */
  notBeforeMs: number
}

export interface Action {
  /** `restart` it as what it is; let it `follow` the leader; `rebuild` it as a replica of the leader; only `warn`. */
  kind: 'restart' | 'follow' | 'rebuild' | 'warn'
  node: string
  reason: string
}

export interface Decision {
  leader: string
  actions: Action[]
}

/**
 * The leader is the running primary with the newest timeline; without one, whoever was leader last. Servers that
 * crashed are restarted, those that were stopped by hand are left alone. A former primary never runs beside its
 * successor again once it has been down: it is made anew as a replica.
 */
export function decide(lastLeader: string, servers: ServerFacts[], nowMs: number): Decision {
  const leader = newestPrimary(lastLeader, servers)?.name ?? lastLeader
  const leads = servers.some(server => server.name === leader && server.running && server.role === 'primary')
  const actions = servers
    .filter(server => !server.busy)
    .map(server =>
      server.running
        ? whileRunning(server, leader, lastLeader, leads, nowMs)
        : whileDown(server, leader, leads, nowMs),
    )
    .filter(action => action !== undefined)
  return { leader, actions }
}

function newestPrimary(lastLeader: string, servers: ServerFacts[]): ServerFacts | undefined {
  const primaries = servers.filter(server => server.running && server.role === 'primary')
  const rank = (server: ServerFacts): number => server.timeline + (server.name === lastLeader ? 0.5 : 0)
  return primaries.sort((a, b) => rank(b) - rank(a))[0]
}

function whileRunning(
  server: ServerFacts,
  leader: string,
  lastLeader: string,
  leads: boolean,
  nowMs: number,
): Action | undefined {
  const node = server.name
  if (node === leader || !leads) return undefined
  if (server.role === 'primary') {
    if (server.cameBack) {
      const reason = `${node} came back as the primary it was before ${leader} took over: making it a replica of ${leader}`
      return server.notBeforeMs <= nowMs ? { kind: 'rebuild', node, reason } : undefined
    }
    if (leader === lastLeader) return undefined
    const reason = `${leader} was promoted while ${node} is still a primary: two primaries, stop ${node}`
    return { kind: 'warn', node, reason }
  }
  if (server.follows !== leader) {
    return { kind: 'follow', node, reason: `${node} now follows ${leader}` }
  }
  if (server.brokenStream === undefined || server.notBeforeMs > nowMs) return undefined
  return brokenReplica(server, leader)
}

function whileDown(server: ServerFacts, leader: string, leads: boolean, nowMs: number): Action | undefined {
  const node = server.name
  if (server.ended !== 'crashed' || server.notBeforeMs > nowMs) return undefined
  if (server.role === 'replica' && server.brokenStream !== undefined) {
    return leads ? brokenReplica(server, leader) : undefined
  }
  if (server.role === 'replica' || node === leader) {
    return { kind: 'restart', node, reason: `restarting ${node}` }
  }
  // A former primary: only its successor can tell what it must become.
  if (!leads) return undefined
  const reason = `${node} crashed after ${leader} had taken over: making it a replica of ${leader}`
  return { kind: 'rebuild', node, reason }
}

function brokenReplica({ name, brokenStream }: ServerFacts, leader: string): Action {
  const reason = `${name} cannot follow ${leader} from where it is, making it anew: ${brokenStream}`
  return { kind: 'rebuild', node: name, reason }
}
