import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect as connectTo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import {
  baseEnvironment,
  type Child,
  childrenOf,
  isAlive,
  runCommand,
  startChild,
} from '../../src/runtime/process.ts'
import { startCli } from '../support/cli.ts'
import { need } from '../support/need.ts'
import { freePorts } from '../support/ports.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

/** A service of systemd: sockets that it listens on, and what it is told. */
let cluster: TestCluster
let folder: string
let child: Child | undefined
const mainFile = fileURLToPath(new URL('../../src/main.js', import.meta.url))

before(async () => {
  cluster = await startTestCluster({ replicas: 1 })
  folder = await mkdtemp(join(tmpdir(), 'pgherd-systemd-'))
})

afterEach(async () => {
  const workers = child ? await childrenOf(child.pid) : []
  await child?.stop('SIGTERM', 10_000)
  await until('the workers to be gone', () => !workers.some(isAlive))
  child = undefined
})

after(async () => {
  await cluster?.stop()
  await rm(folder, { recursive: true })
})

const nodeFlags = (): string[] =>
  [cluster.primary, ...cluster.replicas].flatMap(({ port }) => ['--node', `127.0.0.1:${port}`])

const isReplica = async (port: number): Promise<boolean> =>
  (await query<{ replica: boolean }>(port, 'select pg_is_in_recovery() as replica'))[0]!.replica

describe('sockets of the service manager', need('systemd-socket-activate'), () => {
  async function activate(ports: number[], names: string): Promise<void> {
    const [adminPort] = await freePorts(1)
    const listen = ports.flatMap(port => ['-l', `127.0.0.1:${port}`])
    const name = names === '' ? [] : [`--fdname=${names}`]
    const pgherd = [process.execPath, mainFile, 'up', ...nodeFlags(), '--admin-port', `${adminPort}`]
    // The ports of the configuration are taken by others, which does not matter.
    const { port } = cluster.primary
    const flags = ['--port', `${port}`, '--read-port', `${cluster.replicas[0]!.port}`, '--workers', '1']
    const args = [...listen, ...name, ...pgherd, ...flags]
    child = await startChild({ command: 'systemd-socket-activate', args, env: baseEnvironment() })
    await until('the sockets are there', () => reachable(ports[0]!))
  }

  const reachable = (port: number): Promise<boolean> =>
    new Promise(resolve => {
      const socket = connectTo(port, '127.0.0.1', () => resolve(true))
      socket.on('error', () => resolve(false))
      socket.on('connect', () => socket.destroy())
    })

  test('take the place of its own ports, in their order', async () => {
    const [port, readPort] = (await freePorts(2)) as [number, number]
    await activate([port, readPort], '')
    assert.equal(await isReplica(port), false)
    assert.equal(await isReplica(readPort), true)
  })

  test('lead where their names say', async () => {
    const [port, readPort] = (await freePorts(2)) as [number, number]
    await activate([readPort, port], 'replica:primary')
    assert.equal(await isReplica(port), false)
    assert.equal(await isReplica(readPort), true)
  })
})

test('the unit files are understood', need('systemd-analyze'), async () => {
  const units = fileURLToPath(new URL('../../../deploy/systemd/', import.meta.url))
  const files = (await readdir(units)).map(name => join(units, name))
  assert.equal(files.length, 3)
  const env = baseEnvironment()
  const { code, tail } = await runCommand(
    { command: 'systemd-analyze', args: ['verify', ...files], env },
    20_000,
  )
  // The units of other packages on the machine are none of ours.
  const ours = tail.filter(line => files.some(file => line.includes(file)))
  assert.deepEqual({ code, ours }, { code: 0, ours: [] })
})

test('systemd is told when it is ready, reloads and stops, and what it can do', async () => {
  // Stands in for the program, and writes down what it is to tell.
  const bin = join(folder, 'bin')
  const told = join(folder, 'told')
  await mkdir(bin)
  await writeFile(join(bin, 'systemd-notify'), `#!/bin/sh\necho "$NOTIFY_SOCKET $*" >>${told}\n`, {
    mode: 0o755,
  })
  const [port, readPort, adminPort] = await freePorts(3)
  const flags = ['--port', `${port}`, '--read-port', `${readPort}`, '--admin-port', `${adminPort}`]
  const env = { PATH: `${bin}:${process.env['PATH'] ?? ''}`, NOTIFY_SOCKET: '@test' }
  const up = await startCli(['up', ...nodeFlags(), ...flags, '--workers', '1'], { env })
  const lines = async (): Promise<string[]> => {
    const text = await readFile(told, 'utf8').catch(() => '')
    return text.trim().split('\n')
  }
  const said = (what: string): Promise<unknown> =>
    until(`it says ${what}`, async () => (await lines()).some(line => line.includes(what)))
  await said('READY=1')
  await said('STATUS=writes go to 127.0.0.1')
  assert.ok((await lines()).every(line => line.startsWith('@test ')))
  up.signal('SIGHUP')
  await said('RELOADING=1 MONOTONIC_USEC=')
  await until(
    'it is ready again',
    async () => (await lines()).filter(line => line.includes('READY=1')).length === 2,
  )
  const client = await connect(port!)
  await up.stop()
  await client.end().catch(() => undefined)
  await said('STOPPING=1 EXTEND_TIMEOUT_USEC=40000000')
})
