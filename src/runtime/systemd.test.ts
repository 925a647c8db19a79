import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { need } from '../../test/support/need.ts'
import { until } from '../../test/support/wait.ts'
import { createLogger, silentLogger } from './log.ts'
import { baseEnvironment, type Child, startChild } from './process.ts'
import { inheritedSockets, ServiceManager } from './systemd.ts'
import { systemTimers } from './timers.ts'

test('sockets are taken over when they are meant for this process, with their names', () => {
  const env = { LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'primary:' }
  assert.deepEqual(inheritedSockets(env, 7), [
    { fd: 3, name: 'primary' },
    { fd: 4, name: 'unknown' },
  ])
  assert.deepEqual(inheritedSockets(env, 8), [])
  assert.deepEqual(inheritedSockets({ LISTEN_PID: '7', LISTEN_FDS: 'many' }, 7), [])
  assert.deepEqual(inheritedSockets({}, 7), [])
})

test('without a service manager nothing is told, and a program that is missing is told once', async () => {
  const lines: string[] = []
  const log = createLogger({ level: 'info', format: 'json', write: line => void lines.push(line) })
  const alone = new ServiceManager({ env: {}, pid: 1, timers: systemTimers, log })
  alone.ready()
  alone.status('well')
  await alone.close()
  assert.deepEqual(lines, [])
  const { PATH } = process.env
  process.env['PATH'] = '/nowhere'
  try {
    const env = { NOTIFY_SOCKET: '/nowhere/socket' }
    const manager = new ServiceManager({ env, pid: 1, timers: systemTimers, log })
    manager.ready()
    manager.stopping(1)
    await manager.close()
  } finally {
    process.env['PATH'] = PATH
  }
  assert.equal(lines.length, 1)
  assert.match(lines[0]!, /could not be told READY=1: the program systemd-notify must be in PATH/)
})

/** Prints each datagram that comes to a socket, its lines joined by blanks. */
const listener = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print('bound', flush=True)
while True:
    lines = s.recv(4096).decode().split()
    if lines and lines != ['BARRIER=1']: print(' '.join(lines), flush=True)
`

describe('with a socket to tell it to', need('systemd-notify', 'python3'), () => {
  let folder: string
  let child: Child | undefined
  let told: string[]

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pgherd-notify-'))
    told = []
  })

  afterEach(async () => {
    await child?.stop('SIGKILL', 1000)
    await rm(folder, { recursive: true })
  })

  async function manager(socket: string, env: Record<string, string> = {}): Promise<ServiceManager> {
    const args = ['-c', listener, socket]
    const onLine = (line: string): void => void told.push(line)
    child = await startChild({ command: 'python3', args, env: baseEnvironment(), onLine })
    await until('it listens', () => told.includes('bound'))
    told.length = 0
    const variables = { NOTIFY_SOCKET: socket, ...env }
    return new ServiceManager({ env: variables, pid: 1, timers: systemTimers, log: silentLogger })
  }

  test('what happens is told in order, and of several states the last', async () => {
    const service = await manager(join(folder, 'notify'))
    service.status('it waits')
    service.status('it is there')
    service.ready()
    service.reloading(123n)
    service.ready()
    service.stopping(1500)
    await service.close()
    await until('it has come', () => told.length === 4)
    assert.deepEqual(told, [
      'READY=1 STATUS=it is there',
      'RELOADING=1 MONOTONIC_USEC=123',
      'READY=1',
      'STOPPING=1 EXTEND_TIMEOUT_USEC=1500000',
    ])
  })

  test('a socket may be an abstract one, and the watchdog hears of it twice in its time', async () => {
    const service = await manager(`@${folder}/notify`, { WATCHDOG_USEC: '400000', WATCHDOG_PID: '1' })
    await until('it was told', () => told.length >= 3)
    await service.close()
    assert.deepEqual([...new Set(told)], ['WATCHDOG=1'])
  })

  test('a watchdog of another process hears nothing', async () => {
    const service = await manager(join(folder, 'notify'), { WATCHDOG_USEC: '200000', WATCHDOG_PID: '2' })
    service.status('well')
    await until('it was told', () => told.length > 0)
    await service.close()
    assert.deepEqual(told, ['STATUS=well'])
  })
})
