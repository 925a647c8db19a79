import { programPath } from '../../test/support/need.ts'
import { firstLine } from '../command.ts'
import { BenchError } from '../error.ts'
import type { Contestant } from './contestant.ts'
import { haproxy, haproxyLeastconn } from './haproxy.ts'
import { pgbouncer } from './pgbouncer.ts'
import { pgpool } from './pgpool.ts'

interface Peer {
  program: string
  versionOption: string
  contestant: (program: string, version: string) => Contestant
}

const peers: Readonly<Record<string, Peer>> = {
  pgbouncer: { program: 'pgbouncer', versionOption: '--version', contestant: pgbouncer },
  haproxy: { program: 'haproxy', versionOption: '-v', contestant: haproxy },
  'haproxy-leastconn': { program: 'haproxy', versionOption: '-v', contestant: haproxyLeastconn },
  pgpool: { program: 'pgpool', versionOption: '--version', contestant: pgpool },
}

/** Those that a bench has a configuration for. */
export const peerNames = Object.keys(peers)

/** Known by name, but never tried: nobody could say that a configuration for them is fair. */
const untried = ['odyssey', 'pgcat', 'pgdog']

/** A peer that is on the PATH or at the given path; or why it does not take part. Throws for an unknown name. */
export async function findPeer(
  name: string,
  path: string | undefined,
): Promise<Contestant | { missing: string }> {
  if (untried.includes(name)) return { missing: `${name} is left out: there is no configuration for it yet` }
  const peer = peers[name]
  if (!peer) {
    const known = [...peerNames, ...untried].join(', ')
    throw new BenchError('usage', `there is no peer ${name}: use some of ${known}`)
  }
  const program = path ?? programPath(peer.program)
  if (program === undefined) {
    return {
      missing: `${name} is left out: no ${peer.program} on the PATH, nor given by --peer-path ${name}=PATH`,
    }
  }
  const line = await firstLine(program, [peer.versionOption])
  return peer.contestant(program, /\d+(\.\d+)+/.exec(line)?.[0] ?? 'of unknown version')
}
