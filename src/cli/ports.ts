import { createServer } from 'node:net'
import type { Config } from '../config/schema.ts'
import { CommandError } from './output.ts'

interface Port {
  host: string
  port: number
  /** The key that sets it, and the option where there is one. */
  key: string
}

/** Fails with one sentence when a port that the parts will listen on is taken, before anything is started. */
export async function checkPorts(
  config: Config,
  parts: { agent: boolean; proxy: boolean; admin: boolean },
): Promise<void> {
  const { proxy, agent, admin } = config
  const ports: Port[] = []
  if (parts.proxy) {
    ports.push({ host: proxy.listen, port: proxy.port, key: 'proxy.port' })
    ports.push({ host: proxy.listen, port: proxy.read_port, key: 'proxy.read_port' })
  }
  if (parts.admin) ports.push({ host: admin.listen, port: admin.port, key: 'admin.port' })
  if (parts.agent) {
    ports.push({ host: agent.listen, port: agent.http_port, key: 'agent.http_port' })
    ports.push({ host: agent.listen, port: agent.check_port, key: 'agent.check_port' })
  }
  for (const port of ports) if (port.port !== 0) await checkPort(port)
}

function checkPort({ host, port, key }: Port): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why =
        cause.code === 'EADDRINUSE'
          ? 'is taken by another program'
          : cause.code === 'EACCES'
            ? 'may not be used by this user'
            : `cannot be listened on (${cause.message})`
      const option = `--${key.replace('proxy.', '').replace(/[._]/g, '-')}`
      reject(
        new CommandError('failed', `port ${port} on ${host} ${why}`, {
          cause,
          hint: `stop that program, or choose another port with ${option} or the key ${key}`,
        }),
      )
    })
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve()))
  })
}
