import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { baseEnvironment, childrenOf, isAlive, runCommand, signalProcess, startChild } from './process.ts'

const node = (script: string) => ({ command: process.execPath, args: ['-e', script], env: baseEnvironment() })

describe('child processes', () => {
  it('gives both streams line by line, the last one without its end too, and the exit code', async () => {
    const lines: string[] = []
    const child = await startChild({
      ...node(`process.stdout.write('one\\ntw'); process.stdout.write('o\\nthree'); process.exitCode = 3`),
      onLine: line => lines.push(line),
    })
    assert.deepEqual(await child.exited, { code: 3, signal: null })
    assert.deepEqual(lines, ['one', 'two', 'three'])
    assert.deepEqual(child.exit, { code: 3, signal: null })
  })

  it('keeps only the last lines, and only so much of a long one', async () => {
    const result = await runCommand(
      node(`for (let i = 0; i < 50; i++) console.error(i); console.error('x'.repeat(100000))`),
      10_000,
    )
    assert.equal(result.tail.length, 20)
    assert.equal(result.tail[18], '49')
    assert.ok(result.tail[19]!.length <= 4096)
  })

  it('stops a child with the signal asked for', async () => {
    const child = await startChild(node(`setInterval(() => {}, 1000)`))
    assert.ok(isAlive(child.pid))
    assert.deepEqual(await child.stop('SIGTERM', 5000), { code: null, signal: 'SIGTERM' })
    assert.ok(!isAlive(child.pid))
    assert.equal(signalProcess(child.pid, 'SIGTERM'), false)
  })

  it('kills a child that does not heed the signal', async () => {
    let ready = (): void => {}
    const started = new Promise<void>(resolve => {
      ready = resolve
    })
    const child = await startChild({
      ...node(`process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('ready')`),
      onLine: () => ready(),
    })
    await started
    assert.deepEqual(await child.stop('SIGTERM', 50), { code: null, signal: 'SIGKILL' })
  })

  it('kills a command that takes too long', async () => {
    const result = await runCommand(node(`setInterval(() => {}, 1000)`), 100)
    assert.equal(result.signal, 'SIGKILL')
  })

  it('rejects what cannot be started', async () => {
    await assert.rejects(startChild({ command: '/no/such/program', args: [], env: {} }), { code: 'ENOENT' })
  })

  it('finds the children of a process', async () => {
    const child = await startChild(node(`setInterval(() => {}, 1000)`))
    assert.ok((await childrenOf(process.pid)).includes(child.pid))
    await child.stop('SIGKILL', 1000)
  })

  it('takes nothing from this environment but what every program needs', () => {
    process.env.PGPORT = '1'
    assert.deepEqual(
      Object.keys(baseEnvironment()).filter(name => !['PATH', 'TMPDIR', 'TZ', 'LC_ALL'].includes(name)),
      [],
    )
    delete process.env.PGPORT
  })
})
