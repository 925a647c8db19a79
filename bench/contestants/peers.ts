import { programPath } from '../../test/support/need.ts'
import { firstLine } from '../command.ts'
import { BenchError } from '../error.ts'
import type { Contestant } from './contestant.ts'
import { haproxy, haproxyLeastconn } from './haproxy.ts'
import { odyssey } from './odyssey.ts'
import { pgbouncer } from './pgbouncer.ts'
import { pgcat } from './pgcat.ts'
import { pgdog } from './pgdog.ts'
import { pgpool } from './pgpool.ts'

interface Peer {
  program: string
  versionOption: string
  /** Where it is not of numbers. */
  versionPattern?: RegExp
  contestant: (program: string, version: string) => Contestant
}

const peers: Readonly<Record<string, Peer>> = {
  pgbouncer: { program: 'pgbouncer', versionOption: '--version', contestant: pgbouncer },
  haproxy: { program: 'haproxy', versionOption: '-v', contestant: haproxy },
  'haproxy-leastconn': { program: 'haproxy', versionOption: '-v', contestant: haproxyLeastconn },
  pgpool: { program: 'pgpool', versionOption: '--version', contestant: pgpool },
  odyssey: { program: 'odyssey', versionOption: '--version', contestant: odyssey },
  pgcat: { program: 'pgcat', versionOption: '--version', contestant: pgcat },
  pgdog: {
    program: 'pgdog',
    versionOption: '--version',
    // It tells the commit that it was built from, if it knows.
    versionPattern: /[0-9a-f]{7,}|\d+(\.\d+)+/,
    contestant: pgdog,
  },
}

/** Those that a bench has a configuration for. */
export const peerNames = Object.keys(peers)

/** A peer that is on the PATH or at the given path; or why it does not take part. Throws for an unknown name. */
export async function findPeer(
  name: string,
  path: string | undefined,
  find = programPath,
): Promise<Contestant | { missing: string }> {
  const peer = peers[name]
  if (!peer) throw new BenchError('usage', `there is no peer ${name}: use some of ${peerNames.join(', ')}`)
  const program = path ?? find(peer.program)
  if (program === undefined) {
    return {
      missing: `${name} is left out: no ${peer.program} on the PATH, nor given by --peer-path ${name}=PATH`,
    }
  }
  const line = await firstLine(program, [peer.versionOption])
  return peer.contestant(program, versionIn(line, peer.versionPattern))
}

function versionIn(line: string, pattern = /\d+(\.\d+)+/): string {
  return pattern.exec(line)?.[0] ?? 'of unknown version'
}
