import { createServer, type Server } from 'node:net'
import { systemRandom } from '../../src/runtime/random.ts'

/**
 * Below the ports that systems take by themselves for connections that go out: a server that is started again still
 * finds its own free.
 */
const lowest = 10_240
const highest = 32_767
const triesMax = 1000

/** Ports on 127.0.0.1 that were free a moment ago, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const held: { port: number; server: Server }[] = []
  try {
    for (let tries = 0; held.length < count; tries++) {
      if (tries > triesMax) throw new Error(`no ${count} free ports from ${lowest} to ${highest}`)
      const port = lowest + Math.floor(systemRandom.next() * (highest - lowest))
      const server = await listening(port)
      if (server) held.push({ port, server })
    }
    return held.map(({ port }) => port)
  } finally {
    await Promise.all(held.map(({ server }) => new Promise(resolve => server.close(resolve))))
  }
}

async function listening(port: number): Promise<Server | undefined> {
  const server = createServer()
  return await new Promise(resolve => {
    server.once('error', () => resolve(undefined))
    server.listen(port, '127.0.0.1', () => resolve(server))
  })
}
