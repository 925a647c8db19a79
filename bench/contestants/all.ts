import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BenchError } from '../error.ts'
import type { BenchOptions, Variant } from '../options.ts'
import type { Contestant } from './contestant.ts'
import { direct } from './direct.ts'
import { findPeer } from './peers.ts'
import { pgherd } from './pgherd.ts'

/** The checkout that this file was built in. */
export const projectFolder = fileURLToPath(new URL('../../../', import.meta.url))

export interface Contestants {
  all: Contestant[]
  /** Why peers that were asked for do not take part. */
  leftOut: string[]
}

/** PostgreSQL itself, the peers that are there, pgherd, and its variants: in this order they have their turns. */
export async function chooseContestants(
  options: Pick<BenchOptions, 'peers' | 'peerPaths' | 'variants' | 'nodeOptions'>,
): Promise<Contestants> {
  const all: Contestant[] = [direct('')]
  const leftOut: string[] = []
  for (const name of options.peers) {
    const found = await findPeer(name, options.peerPaths[name])
    if ('missing' in found) leftOut.push(found.missing)
    else all.push(found)
  }
  for (const each of [{ name: 'pgherd', settings: {} }, ...options.variants]) {
    if (all.some(({ name }) => name === each.name)) {
      throw new BenchError('usage', `two contestants are called ${each.name}: give the variant another name`)
    }
    all.push(await pgherdOf(each, options.nodeOptions))
  }
  return { all, leftOut }
}

async function pgherdOf(variant: Variant, nodeOptions: readonly string[]): Promise<Contestant> {
  const folder = resolve(variant.folder ?? projectFolder)
  const manifest = await readFile(join(folder, 'package.json'), 'utf8').catch((cause: Error) => {
    throw new BenchError('usage', `${folder} is not a checkout of pgherd: ${cause.message}`, { cause })
  })
  const { version } = JSON.parse(manifest) as { version: string }
  const main = join(folder, 'dist/src/main.js')
  return pgherd({ name: variant.name, version, main, settings: variant.settings, nodeOptions })
}
