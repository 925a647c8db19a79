import { createServer } from 'node:net'
import { DemoError } from './error.ts'

/**
 * First port tried for a local server. Below the range that systems give to outgoing connections, so that none
 * of those sits on the port while a server restarts.
 */
const firstPort = 15_432
const portsTried = 1000

/** The lowest ports from 15432 on that are free on 127.0.0.1 now. Throws `DemoError` `port_taken`. */
export async function findPorts(count: number): Promise<number[]> {
  const ports: number[] = []
  for (let port = firstPort; ports.length < count; port++) {
    if (port >= firstPort + portsTried) {
      throw new DemoError(
        'port_taken',
        `no ${count} free ports on 127.0.0.1 from ${firstPort} to ${port - 1}: stop some of what listens there`,
      )
    }
    if (await isFree(port)) ports.push(port)
  }
  return ports
}

/** Throws `DemoError` `port_taken` when something listens on the port of 127.0.0.1. */
export async function checkPortFree(port: number, purpose: string): Promise<void> {
  if (await isFree(port)) return
  throw new DemoError(
    'port_taken',
    `port ${port} on 127.0.0.1, meant for ${purpose}, is taken: stop the program that listens there, or choose another port`,
  )
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
