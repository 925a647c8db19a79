import type { Inherited } from '../proxy/control/control.ts'
import type { InheritedSocket } from '../runtime/systemd.ts'
import { CommandError } from './output.ts'

const routes = ['primary', 'replica'] as const

/**
 * What the sockets that the service manager has handed over are for: what their names say (`primary`, `replica`), or
 * when none is named so, the first for reads and writes and the second for reads.
 * @throws CommandError for a socket that is for nothing
 */
export function inheritedRoutes(sockets: readonly InheritedSocket[]): Inherited[] {
  const routeOf = (name: string): Inherited['route'] | undefined => routes.find(route => route === name)
  const isNamed = sockets.some(({ name }) => routeOf(name))
  return sockets.map(({ fd, name }, at) => {
    const route = isNamed ? routeOf(name) : routes[at]
    if (route) return { fd, route }
    throw new CommandError('usage', `socket ${at + 1} of the service manager, "${name}", is for nothing`, {
      hint: 'name each with FileDescriptorName=primary or replica, or hand over two at most: reads and writes, reads',
    })
  })
}
