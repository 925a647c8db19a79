import { createServer } from 'node:net'

/** Ports on 127.0.0.1 that were free a moment ago, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports: number[] = []
  for (const server of servers) {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', resolve)
    })
    const address = server.address()
    if (address && typeof address === 'object') ports.push(address.port)
  }
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return ports
}
