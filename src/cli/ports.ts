import { createServer } from 'node:net'
import type { Config } from '../config/schema.ts'
import type { Inherited } from '../proxy/control/control.ts'
import { CommandError } from './output.ts'

interface Port {
  host: string
  port: number
  /** The key that sets it. */
  key: string
  /** The option that sets it, where the command has one. */
  option?: string | undefined
}

/**
 * Fails with one sentence when a port that the parts will listen on is taken, before anything is started. The service
 * manager holds those of the inherited sockets itself.
 */
export async function checkPorts(
  config: Config,
  parts: { agent: boolean; proxy: boolean; admin: boolean },
  inherited: readonly Inherited[] = [],
): Promise<void> {
  const { proxy, agent, admin } = config
  const ports: Port[] = []
  if (parts.proxy) {
    const host = proxy.listen
    const isOwn = (wanted: Inherited['route']): boolean => !inherited.some(({ route }) => route === wanted)
    if (isOwn('primary')) ports.push({ host, port: proxy.port, key: 'proxy.port', option: '--port' })
    if (isOwn('replica'))
      ports.push({ host, port: proxy.read_port, key: 'proxy.read_port', option: '--read-port' })
  }
  if (parts.admin) {
    ports.push({ host: admin.listen, port: admin.port, key: 'admin.port', option: '--admin-port' })
  }
  if (parts.agent) {
    const host = agent.listen
    const option = (name: string): string | undefined => (parts.proxy ? undefined : name)
    ports.push({ host, port: agent.http_port, key: 'agent.http_port', option: option('--http-port') })
    ports.push({ host, port: agent.check_port, key: 'agent.check_port', option: option('--check-port') })
  }
  const wanted = ports.filter(({ port }) => port !== 0)
  checkEachOther(wanted)
  for (const port of wanted) await checkPort(port)
}

function checkEachOther(ports: readonly Port[]): void {
  const known = new Map<string, string>()
  for (const { host, port, key } of ports) {
    const other = known.get(`${host}:${port}`)
    if (other !== undefined) {
      throw new CommandError('usage', `${other} and ${key} are both ${port}: give each a port of its own`)
    }
    known.set(`${host}:${port}`, key)
  }
}

function checkPort({ host, port, key, option }: Port): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why =
        cause.code === 'EADDRINUSE'
          ? 'is taken by another program'
          : cause.code === 'EACCES'
            ? 'may not be used by this user'
            : `cannot be listened on (${cause.message})`
      const where = option === undefined ? `the key ${key}` : `${option} or the key ${key}`
      reject(
        new CommandError('failed', `port ${port} on ${host} ${why}`, {
          cause,
          hint: `stop that program, or choose another port with ${where}`,
        }),
      )
    })
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve()))
  })
}
