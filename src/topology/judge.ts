import { type Decisions, stateInWords } from './decide.ts'
import { factsOf, type Known } from './evidence.ts'
import type { RoutingSettings, TopologyNode } from './types.ts'

/** The node as routing sees it: what it may do after all that was decided about the cluster, and why not more. */
export function judge(known: Known, decisions: Decisions, settings: RoutingSettings): TopologyNode {
  const node: TopologyNode = { ...known.draft, reasons: [...known.draft.reasons] }
  const { candidates, leader, primary } = decisions
  const first = decisions.seconds.get(node.name)
  if (first !== undefined) {
    node.reasons.push(`is left alone: ${known.address} is the address of node ${first}`)
    return node
  }
  const stranger = whyStranger(node, candidates)
  if (stranger !== undefined) node.reasons.push(stranger)
  if (candidates.length > 1 || node.systemId !== (candidates[0] ?? '')) return node
  if (decisions.denied.has(node.name)) {
    const why = leader === undefined ? 'another node claims it as well' : `the leader is ${leader}`
    node.reasons.push(`not the primary to write to: ${why}`)
  }
  if (node.name === primary?.name && node.accepting) {
    if (node.state === 'active') node.writable = true
    else node.reasons.push(`not the primary to write to: ${stateInWords(node)}`)
  }
  if (node.role === 'replica') judgeReplica(node, known, primary, settings)
  return node
}

function whyStranger({ systemId }: TopologyNode, candidates: readonly string[]): string | undefined {
  const [chosen] = candidates
  if (systemId === '' || chosen === undefined) return undefined
  if (candidates.length > 1)
    return `its system identifier is ${systemId}, and it cannot be told whether that is the cluster's`
  if (systemId === chosen) return undefined
  return `belongs to another cluster: its system identifier is ${systemId}, not ${chosen}`
}

/**
 * How far a replica is behind, in bytes: behind the primary as far as that is known here, and never less than
 * what it has received itself and not yet replayed.
 */
function lagBytesOf(node: TopologyNode, known: Known, newestLsn: number | undefined) {
  if (node.lsn === undefined) return undefined
  const facts = factsOf(known.evidence)
  return Math.max(0, (facts?.receiveLsn ?? 0) - node.lsn, (newestLsn ?? 0) - node.lsn)
}

function judgeReplica(
  node: TopologyNode,
  known: Known,
  primary: TopologyNode | undefined,
  settings: RoutingSettings,
): void {
  node.lagBytes = lagBytesOf(node, known, primary?.lsn)
  const no = (why: string): void => void node.reasons.push(`not a replica candidate: ${why}`)
  if (!node.accepting) return
  if (node.state !== 'active') return no(stateInWords(node))
  if (node.weight === 0) return no('its weight is 0')
  const strayed = primary && whyStrayed(node, known, primary)
  if (strayed !== undefined) return no(strayed)
  if (node.lagBytes !== undefined && node.lagBytes > settings.replicaLagBytesMax)
    return no(`lag ${inMegabytes(node.lagBytes)} over ${inMegabytes(settings.replicaLagBytesMax)}`)
  node.readable = true
}

/**
 * Why a replica does not follow the primary's history; undefined when it may. A promotion begins a new timeline:
 * a replica that is still on an older one is either about to switch, or was left behind for good. Its lag in bytes
 * does not tell, because a primary that has little to do does not get away from it.
 */
function whyStrayed(node: TopologyNode, known: Known, primary: TopologyNode): string | undefined {
  if (node.timeline === 0 || node.timeline >= primary.timeline) return undefined
  const where = `it is on timeline ${node.timeline}, the primary ${primary.name} on ${primary.timeline}`
  const facts = factsOf(known.evidence)
  if (facts?.replicationState !== 'streaming') return `${where}, and it follows nobody`
  // What both have in common ends before anything that the primary has written on its timeline. So however old
  // the primary's position is, nobody on the older timeline can be past it, unless it went another way.
  if (node.lsn !== undefined && primary.lsn !== undefined && node.lsn > primary.lsn)
    return `${where}, and it has replayed what the primary never had: rewind it or make it anew`
  return undefined
}

function inMegabytes(bytes: number): string {
  const megabytes = bytes / 1048576
  return `${megabytes >= 10 || Number.isInteger(megabytes) ? Math.round(megabytes) : megabytes.toFixed(1)} MB`
}
