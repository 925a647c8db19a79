import type { Socket } from 'node:net'

/** Where a socket's peer connects from. A listener for both kinds of addresses shows IPv4 within IPv6. */
export function peerIp(socket: Socket): string {
  return (socket.remoteAddress ?? '?').replace(/^::ffff:(?=\d+\.)/, '')
}

/** The same with its port: `address:port`. */
export function peerOf(socket: Socket): string {
  return addressOf(peerIp(socket), socket.remotePort ?? 0)
}

export function addressOf(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`
}

/** What Node.js keeps below a socket. It has no public way to stop reading before the next bytes are there. */
interface Handle {
  reading: boolean
  readStart(): number
  readStop(): number
}

/**
 * Stops reading from a socket at once, so that what comes next waits for another process that gets the socket. Returns
 * whether nothing had been read that nobody has taken yet; otherwise it is read on.
 */
export function stopReading(socket: Socket): boolean {
  const { _handle: handle } = socket as Socket & { _handle?: Handle | null }
  if (!handle || socket.destroyed) return false
  socket.pause()
  if (socket.readableLength > 0 || socket.readableEnded) {
    socket.resume()
    return false
  }
  handle.readStop()
  handle.reading = false
  return true
}

/** Goes on reading after `stopReading`, or where a socket was opened without. */
export function readOn(socket: Socket): void {
  const { _handle: handle } = socket as Socket & { _handle?: Handle | null }
  if (handle && !handle.reading) {
    handle.reading = true
    handle.readStart()
  }
  socket.resume()
}
