import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { mayLack, need } from './need.ts'

const run = promisify(execFile)

const nearMac = '02:00:00:00:00:01'
const farMac = '02:00:00:00:00:02'

/** A network namespace of its own, joined to this machine's by one cable that can be pulled out. */
export class Network {
  /** Where what runs in it is reached. */
  readonly address: string
  /** What stands before a command that is to run in it. */
  readonly command: readonly string[]
  private readonly name: string
  private readonly near: string

  static async make(): Promise<Network> {
    // Not two of the same at once: names and addresses are derived from this process.
    const network = new Network(process.pid)
    await network.remove()
    const { name, near, address } = network
    try {
      await ip('netns', 'add', name)
      const peer = ['peer', 'name', 'far', 'address', farMac, 'netns', name]
      await ip('link', 'add', near, 'address', nearMac, 'type', 'veth', ...peer)
      await ip('addr', 'add', `${network.nearAddress}/30`, 'dev', near)
      await ip('link', 'set', near, 'up')
      await ip('-n', name, 'addr', 'add', `${address}/30`, 'dev', 'far')
      await ip('-n', name, 'link', 'set', 'lo', 'up')
      await network.join()
    } catch (cause) {
      await network.remove()
      throw cause
    }
    return network
  }

  private constructor(id: number) {
    this.name = `pgherd-${id}`
    this.near = `pgh${id % 1e9}`
    this.address = `10.${200 + (id % 50)}.${(id >> 6) % 256}.2`
    this.command = ['ip', 'netns', 'exec', this.name]
  }

  /** Pulls the cable: what is sent in either direction is lost without a word. */
  part(): Promise<void> {
    return ip('-n', this.name, 'link', 'set', 'far', 'down')
  }

  join(): Promise<void> {
    return ip('-n', this.name, 'link', 'set', 'far', 'up')
  }

  /** The same by a router on the way: both ends go on knowing the next hop, and what they send to it is lost. */
  async lose(): Promise<void> {
    await this.knowNextHop('permanent')
    await this.tc('add', 'blackhole')
  }

  async loseNoMore(): Promise<void> {
    await this.tc('del')
    await this.knowNextHop('reachable')
  }

  private async tc(verb: 'add' | 'del', ...kind: string[]): Promise<void> {
    await run('tc', ['qdisc', verb, 'dev', this.near, 'root', ...kind])
    await run('tc', ['-n', this.name, 'qdisc', verb, 'dev', 'far', 'root', ...kind])
  }

  private async knowNextHop(nud: 'permanent' | 'reachable'): Promise<void> {
    const entry = ['nud', nud]
    await ip('neigh', 'replace', this.address, 'lladdr', farMac, 'dev', this.near, ...entry)
    await ip('-n', this.name, 'neigh', 'replace', this.nearAddress, 'lladdr', nearMac, 'dev', 'far', ...entry)
  }

  private get nearAddress(): string {
    return this.address.replace(/\d+$/, '1')
  }

  async remove(): Promise<void> {
    await ip('netns', 'del', this.name).catch(() => undefined)
    await ip('link', 'del', this.near).catch(() => undefined)
  }
}

/** Why no namespace can be made here, as a suite's options. */
export function needNetworks(): { skip: string | false } {
  if (process.getuid?.() !== 0) return { skip: mayLack('network namespaces take root') }
  return need('ip', 'tc')
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args)
}
