import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type RecordingIo, recordingIo } from '../../test/support/command.ts'
import { defaultConfigFile, requireConfig } from './config.ts'
import { addConfigCommands } from './config-commands.ts'
import { CommandError } from './output.ts'
import { createProgram, runProgram } from './terminal.ts'

function run(io: RecordingIo, ...args: string[]): Promise<number> {
  const program = createProgram(io, '1.2.3')
  addConfigCommands(program, io)
  return runProgram(program, args, io)
}

const wrong = 'proxy:\n  prot: 1\n  read_port: x\n'

describe('config check', () => {
  test('says ok', async () => {
    const io = recordingIo({ files: { 'a.yaml': 'cluster: a\n' } })
    assert.equal(await run(io, 'config', 'check', 'a.yaml'), 0)
    assert.deepEqual([io.out, io.err], ['a.yaml: ok\n', ''])
  })

  test('prints every problem and ends with 2', async () => {
    const io = recordingIo({ files: { 'a.yaml': wrong } })
    assert.equal(await run(io, 'config', 'check', 'a.yaml'), 2)
    assert.equal(
      io.out,
      'a.yaml:2:3: `proxy.prot` is not a known key\n  hint: did you mean `port`?\n' +
        'a.yaml:3:14: `proxy.read_port` must be a port from 1 to 65535, or 0 for none, not `x`\n',
    )
    assert.equal(io.err, 'error: the configuration a.yaml has 2 problems\n')
  })

  test('as JSON', async () => {
    const io = recordingIo({ files: { 'a.yaml': wrong }, env: { PGHERD_X: '' } })
    assert.equal(await run(io, 'config', 'check', '--json', 'a.yaml'), 2)
    const result = JSON.parse(io.out) as { ok: boolean; problems: unknown[]; warnings: unknown[] }
    assert.equal(result.ok, false)
    assert.deepEqual(result.problems[0], {
      file: 'a.yaml',
      line: 2,
      column: 3,
      path: 'proxy.prot',
      message: '`proxy.prot` is not a known key',
      hint: 'did you mean `port`?',
    })
    assert.equal(result.warnings.length, 1)
  })

  test('a file that is not there', async () => {
    const io = recordingIo()
    assert.equal(await run(io, 'config', 'check', 'a.yaml'), 2)
    assert.equal(io.out, 'a.yaml: the file does not exist\n')
  })

  test('without a file the environment is checked, and warnings go to standard error', async () => {
    const io = recordingIo({ env: { PGHERD_CLUSTR: 'x' } })
    assert.equal(await run(io, 'config', 'check'), 0)
    assert.equal(io.out, 'no configuration file, defaults and environment: ok\n')
    assert.match(
      io.err,
      /^warning: environment: `PGHERD_CLUSTR` is not .* \(did you mean `PGHERD_CLUSTER`\?\)\n$/,
    )
  })
})

describe('config show', () => {
  const files = { 'a.yaml': 'cluster: a\nadmin: {token: canary}\n' }

  test('as YAML, with origins and without secrets', async () => {
    const io = recordingIo({ files })
    assert.equal(await run(io, '--config', 'a.yaml', 'config', 'show'), 0)
    assert.match(io.out, /^cluster: a +# a\.yaml:1\n/)
    assert.doesNotMatch(io.out, /canary/)
  })

  test('as JSON', async () => {
    const io = recordingIo({ files })
    assert.equal(await run(io, 'config', 'show', '--json', '--config', 'a.yaml'), 0)
    const shown = JSON.parse(io.out) as Record<string, Record<string, unknown>>
    assert.equal(shown['config']?.['cluster'], 'a')
    assert.equal(shown['origins']?.['admin.token'], 'a.yaml:2')
    assert.deepEqual(shown['config']?.['admin'], { listen: '127.0.0.1', port: 8432, token: '[redacted]' })
  })

  test('a wrong file leaves standard output empty', async () => {
    const io = recordingIo({ files: { 'a.yaml': wrong } })
    assert.equal(await run(io, 'config', 'show', 'a.yaml'), 2)
    assert.equal(io.out, '')
    assert.match(io.err, /a\.yaml:2:3: .*\n.*\n.*\nerror: the configuration a\.yaml has 2 problems\n$/)
  })
})

test('config schema prints JSON Schema', async () => {
  const io = recordingIo()
  assert.equal(await run(io, 'config', 'schema'), 0)
  const schema = JSON.parse(io.out) as Record<string, unknown>
  assert.equal(schema['$schema'], 'http://json-schema.org/draft-07/schema#')
})

test('help and version end with 0, wrong usage with 2', async () => {
  const help = recordingIo()
  assert.equal(await run(help, 'config', '--help'), 0)
  assert.match(help.out, /check .*\n.*show/)
  const version = recordingIo()
  assert.equal(await run(version, '--version'), 0)
  assert.equal(version.out, '1.2.3\n')
  for (const args of [['cnfig'], ['config', 'chek'], ['config', 'check', '--jsn'], ['config']]) {
    const io = recordingIo()
    assert.equal(await run(io, ...args), 2, args.join(' '))
    assert.equal(io.out, '')
    assert.notEqual(io.err, '')
  }
})

test('the file is the named one, that of PGHERD_CONFIG, or the first usual one that exists', () => {
  const local = { './pgherd.yaml': '', '/etc/pgherd/pgherd.yaml': '' }
  assert.equal(defaultConfigFile(recordingIo({ files: local, env: { PGHERD_CONFIG: 'e' } }), 'n'), 'n')
  assert.equal(defaultConfigFile(recordingIo({ files: local, env: { PGHERD_CONFIG: 'e' } }), undefined), 'e')
  assert.equal(defaultConfigFile(recordingIo({ files: local }), undefined), './pgherd.yaml')
  const system = { '/etc/pgherd/pgherd.yaml': '' }
  assert.equal(defaultConfigFile(recordingIo({ files: system }), undefined), '/etc/pgherd/pgherd.yaml')
  assert.equal(defaultConfigFile(recordingIo(), undefined), undefined)
})

test('a usual file that may not be read is not passed over', () => {
  const io = recordingIo()
  io.readFile = () => {
    throw Object.assign(new Error('no'), { code: 'EACCES' })
  }
  assert.equal(defaultConfigFile(io, undefined), './pgherd.yaml')
  assert.throws(() => requireConfig(io, {}), CommandError)
  assert.match(io.err, /^\.\/pgherd\.yaml: the file may not be read by this user\n/)
})

test('a command gets its configuration with flags laid over, or an error that says how many problems', () => {
  const io = recordingIo({ files: { 'a.yaml': 'proxy: {port: 1}\n' } })
  const overrides = { 'proxy.port': { value: '7000', flag: '--port' } }
  const { config, file } = requireConfig(io, { file: 'a.yaml', overrides })
  assert.deepEqual([config.proxy.port, file], [7000, 'a.yaml'])
  const bad = { 'proxy.port': { value: 'x', flag: '--port' } }
  assert.throws(
    () => requireConfig(io, { file: 'a.yaml', overrides: bad }),
    /the configuration a\.yaml has 1 problem$/,
  )
  assert.match(io.err, /^command line: `--port` must be a port/)
})
