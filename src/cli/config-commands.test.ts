import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type RecordingIo, recordingIo } from '../../test/support/command.ts'
import { loaded } from '../../test/support/config.ts'
import { openEmbedded, realWorld } from '../../test/support/stores.ts'
import { until } from '../../test/support/wait.ts'
import { startAdmin } from '../admin/admin.ts'
import { type AdminServer } from '../admin/http.ts'
import type { EmbeddedStore } from '../store/embedded.ts'
import { encode } from '../topology/codec.ts'
import { readIntent } from '../topology/intent.ts'
import { keysOf } from '../topology/keys.ts'
import { ClusterState } from '../topology/state.ts'
import { topologyFromStore } from './cluster-view.ts'
import { addConfigCommands } from './config-commands.ts'
import { addNodeCommands } from './node.ts'
import { createProgram, runProgram } from './terminal.ts'

const files = { 'p.yaml': 'proxy: {lanes: off}\n' }

describe('settings of the fleet', () => {
  let store: EmbeddedStore
  let admin: AdminServer
  let folder: string

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pgherd-config-test-'))
    store = await openEmbedded()
    const { log, timers } = realWorld
    const state = new ClusterState(keysOf('main'))
    const topology = topologyFromStore(state, { config: loaded(''), origins: new Map() })
    const connection = { up: true, sinceMs: 0, reason: undefined }
    admin = await startAdmin({
      listen: '127.0.0.1',
      port: 0,
      token: undefined,
      sources: { version: '0', topology: () => topology, store: () => connection, proxy: undefined },
      proxies: () => [],
      notReady: () => undefined,
      restartWorkers: undefined,
      store,
      timers,
      log,
    })
  })
  after(async () => {
    await admin.close()
    await store.close()
    rmSync(folder, { recursive: true })
  })

  /** Runs a command to its end, and checks its exit code. */
  async function run(code: number, args: string[], env: Record<string, string> = {}): Promise<RecordingIo> {
    const io = recordingIo({ files, env: { PGHERD_ADMIN_URL: admin.url, ...env } })
    const program = createProgram(io, '0')
    addConfigCommands(program, io)
    addNodeCommands(program, io)
    assert.equal(await runProgram(program, args, io), code, io.err)
    return io
  }
  const config = (...args: string[]): Promise<RecordingIo> => run(0, ['config', ...args])
  const values = async (): Promise<Record<string, unknown>> => (await readIntent(store, 'main')).values
  const put = (key: string, value: string): Promise<unknown> =>
    store.transact({ compares: [], writes: [{ kind: 'put', key, value }] })

  /** An editor that does what the lines of a shell script do with the file `$1`; each run takes the next script. */
  function editor(...scripts: string[]): Record<string, string> {
    const program = join(folder, 'editor.sh')
    const turn = join(folder, 'turn')
    writeFileSync(turn, '0')
    const cases = scripts.map((script, index) => `${index}) ${script} ;;`).join('\n')
    const text = `#!/bin/sh\nn=$(cat ${turn})\necho $((n + 1)) > ${turn}\ncase $n in\n${cases}\nesac\n`
    writeFileSync(program, text)
    chmodSync(program, 0o700)
    return { EDITOR: program }
  }

  test('before anything was changed', async () => {
    assert.equal((await config('history')).err, 'nothing has been changed yet\n')
    assert.equal((await config('diff')).err, 'nothing differs between the changes 0 and 0\n')
    await run(1, ['config', 'rollback', '3'])
  })

  test('are set, shown with where they come from, and taken out', async () => {
    const set = await config('set', 'proxy.query_wait_timeout=90s', 'proxy.lanes=on', '--reason', 'a test')
    assert.match(
      set.out,
      /^proxy.query_wait_timeout, proxy.lanes are set; no proxy runs that would have to know \(change 1, revision \d+\)\n$/,
    )
    const shown = await config('show', 'p.yaml')
    assert.match(shown.out, /^ {2}query_wait_timeout: 90s +# fleet$/m)
    assert.match(shown.out, /^ {2}lanes: off +# p\.yaml:1$/m)
    assert.match((await config('show', '--local')).out, /^ {2}query_wait_timeout: 2m +# default$/m)
    const unset = await config('unset', 'proxy.query_wait_timeout', '--no-wait')
    assert.match(
      unset.out,
      /^proxy.query_wait_timeout is not set \(change 2, revision \d+\); the proxies were not/,
    )
    assert.deepEqual(await values(), { 'proxy.lanes': 'on' })
    const again = await config('unset', 'proxy.query_wait_timeout')
    assert.match(
      again.out,
      /^proxy.query_wait_timeout was not set for the fleet; .*\(nothing had to be changed, revision \d+\)/,
    )
    assert.equal(again.err, '')
  })

  test('that are wrong are refused with what to do, before anything is written', async () => {
    const wrong = await run(2, ['config', 'set', 'proxy.query_wait_timeout=5', 'proxy.lanse=off'])
    assert.deepEqual(wrong.err.split('\n'), [
      'command line: `proxy.lanse` is not a known key',
      '  hint: did you mean `lanes`?',
      'command line: `proxy.query_wait_timeout` must be a duration from 100ms to 24d, such as `2m`, not `5`',
      '  hint: a duration needs a unit: `5s` for seconds, `5ms` for milliseconds',
      'error: 2 settings are wrong: nothing was changed',
      '',
    ])
    assert.deepEqual(await values(), { 'proxy.lanes': 'on' })
    assert.equal(
      (await run(2, ['config', 'set', 'proxy.lanes'])).err,
      'error: `proxy.lanes` has no value\nhint: write proxy.lanes=on; it must be one of `on`, `off`\n',
    )
    const apart = await run(2, ['config', 'set', 'proxy.default_pool_size', '7', 'proxy.lanes=on'])
    assert.match(apart.err, /^error: `proxy.default_pool_size` has no value\nhint: write .*pool_size=7; /)
    assert.match(
      (await run(2, ['config', 'set', 'proxy.lanse'])).err,
      /is not a known key\nhint: did you mean/,
    )
    assert.match((await run(2, ['config', 'set', '=1'])).err, /has no key\nhint: write KEY=VALUE, as in /)
    const long = ['config', 'set', 'proxy.lanes=off', '--reason', 'x'.repeat(1001)]
    assert.match((await run(2, long)).err, /Expected at most 1000 characters/)
  })

  test('have a history, with that of the nodes, and go back to what they were', async () => {
    await run(0, ['node', 'add', 'b', '10.0.0.2', '--no-check', '--reason', 'more reads'])
    await config('set', 'proxy.databases.app.pool_size=20', '--json')
    const { out } = await config('history', '--limit', '2')
    assert.match(
      out,
      /^CHANGE +AT +WHO +WHAT +WHY\n +4 .*@.* config set proxy\.databases\.app\.pool_size=20 +-\n/,
    )
    assert.match(out, /\n +3 .* node add b 10\.0\.0\.2:5432 +more reads\n$/)
    const diff = await config('diff', '1')
    assert.deepEqual(diff.out.split('\n'), [
      'proxy.databases: (not set) -> { app: { pool_size: 20 } }',
      'proxy.query_wait_timeout: 90s -> (not set)',
      'node b: added, at 10.0.0.2:5432',
      '',
    ])
    const back = JSON.parse((await config('rollback', '1', '--json')).out) as Record<string, unknown>
    assert.deepEqual([back['restored'], back['change'], back['changed']], [1, 5, true])
    assert.deepEqual(await values(), { 'proxy.lanes': 'on', 'proxy.query_wait_timeout': '90s' })
    assert.equal((await config('diff', '1', '5')).err, 'nothing differs between the changes 1 and 5\n')
    const changes = JSON.parse((await config('history', '--json')).out) as { changes: { what: string }[] }
    assert.equal(changes.changes[0]?.what, 'config rollback 1')
    const unknown = await run(1, ['config', 'diff', '9'])
    assert.match(
      unknown.err,
      /after change 9 is not known\nhint: known are 0 to 5: the history keeps 5 changes/,
    )
  })

  test('a proxy that has not applied them is named, and one that says otherwise itself as well', async () => {
    const row = { v: 1 as const, address: 'x:1', adminUrl: '', clients: 0, version: '0', at: '' }
    const ready = { ...row, id: 'p1', appliedRevision: 1e9, ownSettings: ['proxy.lanes', 'proxy.users'] }
    await put(keysOf('main').proxyStatus('p1'), encode(ready))
    const own = await config('set', 'proxy.lanes=off', 'proxy.min_pool_size=1')
    assert.match(own.out, /^proxy.lanes, proxy.min_pool_size are set; 1 proxy has applied it/)
    assert.equal(own.err, 'warning: proxy p1 keeps what its own configuration says: proxy.lanes\n')
    const nested = await config('set', 'proxy.users.r.pool_size=2')
    assert.equal(nested.err, 'warning: proxy p1 keeps what its own configuration says: proxy.users\n')
    await config('unset', 'proxy.users')
    await put(keysOf('main').proxyStatus('p2'), encode({ ...row, id: 'p2', appliedRevision: 1 }))
    const missing = await run(1, ['config', 'set', 'proxy.lanes=on', '--timeout', '50ms'])
    assert.match(
      missing.err,
      /^warning: .*\nerror: proxy.lanes is set \(change 9, .* not applied by p2\nhint: the change stands/,
    )
    assert.equal((await values())['proxy.lanes'], 'on')
    for (const id of ['p1', 'p2']) {
      await store.transact({
        compares: [],
        writes: [{ kind: 'delete', key: keysOf('main').proxyStatus(id) }],
      })
    }
  })

  test('not on top of what somebody has changed since', async () => {
    const refused = await run(1, ['config', 'set', 'proxy.lanes=off', '--base', '8'])
    assert.match(
      refused.err,
      /^error: the settings were changed meanwhile \(change 9, .*: config set proxy\.lanes=on\)\nhint: Nothing/,
    )
    await config('set', 'proxy.lanes=off', '--base', '9')
  })

  describe('edited', () => {
    const edit = (code: number, env: Record<string, string>): Promise<RecordingIo> =>
      run(code, ['config', 'edit', '--reason', 'by hand'], env)

    test('as a file', async () => {
      const done = await edit(0, editor(`sed -i 's/lanes: off/lanes: on/' "$1"`))
      assert.match(done.out, /^proxy\.lanes changed; no proxy/)
      assert.equal((await values())['proxy.lanes'], 'on')
    })

    test('and left as they were', async () => {
      assert.equal((await edit(0, editor(':'))).err, 'nothing was changed\n')
    })

    test('again while something is wrong, with the text kept', async () => {
      const kept = join(folder, 'second.txt')
      const scripts = [
        `sed -i 's/lanes: on/lanes: maybe/' "$1"`,
        `cp "$1" ${kept}; sed -i 's/maybe/off/' "$1"`,
      ]
      const done = await edit(0, editor(...scripts))
      assert.match(done.err, /settings\.yaml:\d+:\d+: `proxy\.lanes` must be one of `on`, `off`, not `maybe`/)
      assert.match(readFileSync(kept, 'utf8'), /^# `proxy.lanes` must be one of.*\n# ---\nproxy:\n[^]*maybe/m)
      assert.equal((await values())['proxy.lanes'], 'off')
      const given = await edit(1, editor(`sed -i 's/lanes: off/lanes: x/' "$1"`, ':'))
      const [, file = ''] = /\nhint: it is kept in (.*)\n$/.exec(given.err) ?? []
      assert.match(readFileSync(file, 'utf8'), /lanes: x/)
      rmSync(join(file, '..'), { recursive: true })
    })

    test('again when somebody was faster, with what that one did', async () => {
      const second = join(folder, 'moved.txt')
      const key = keysOf('main').settings
      const other = (): Promise<unknown> => config('set', 'proxy.min_pool_size=4', '--no-wait')
      // The editor waits for the other operator's change, so that it comes between reading and writing.
      const wait = `echo > ${folder}/open; while [ -e ${folder}/open ]; do sleep 0.02; done`
      const scripts = [
        `sed -i 's/lanes: off/lanes: on/' "$1"; ${wait}`,
        `cp "$1" ${second}; sed -i '/Take this line out/d' "$1"`,
      ]
      const editing = edit(0, editor(...scripts))
      const { revision } = await store.get(key)
      await until('the editor is open', () => existsSync(join(folder, 'open')))
      await other()
      assert.ok((await store.get(key)).revision > revision)
      rmSync(join(folder, 'open'))
      const done = await editing
      assert.match(
        done.err,
        /the settings were changed meanwhile \(change \d+, .*: config set proxy\.min_pool_size=4\)/,
      )
      assert.match(readFileSync(second, 'utf8'), /proxy\.min_pool_size was 1 and is now 4, as below/)
      assert.deepEqual(await values(), {
        'proxy.lanes': 'on',
        'proxy.min_pool_size': 4,
        'proxy.query_wait_timeout': '90s',
      })
    })

    test('with an editor that fails', async () => {
      const failed = await edit(1, { EDITOR: 'false' })
      assert.match(
        failed.err,
        /^error: the editor ended with exit code 1: false\nhint: nothing was changed; the text is in (.*)\. VISUAL/,
      )
      const [, file = ''] = /text is in (.*)\. VISUAL/.exec(failed.err) ?? []
      rmSync(join(file, '..'), { recursive: true })
    })
  })

  test('what is not set for the fleet is said to be so, and where it is set instead', async () => {
    await config('set', 'proxy.default_pool_size=30', 'proxy.databases.app.pool_size=5', 'proxy.lanes=on')
    const both = await run(
      0,
      ['-c', 'p.yaml', 'config', 'unset', 'proxy.default_pool_size', 'proxy.pool_mode', 'proxy.lanes'],
      { PGHERD_PROXY_POOL_MODE: 'session' },
    )
    assert.match(
      both.out,
      /^proxy.default_pool_size, proxy.lanes are not set; proxy.pool_mode was not set for the fleet; /,
    )
    assert.equal(
      both.err,
      'warning: proxy.pool_mode is set by PGHERD_PROXY_POOL_MODE, not for the fleet (change it there)\n',
    )
    const file = await run(0, ['-c', 'p.yaml', 'config', 'unset', 'proxy.lanes'])
    assert.equal(file.err, 'warning: proxy.lanes is set by p.yaml:1, not for the fleet (change it there)\n')
    const wrong = ['proxy.lanse', 'proxy.databases.app.pool_sise', 'proxy.port']
    assert.deepEqual((await run(2, ['config', 'unset', ...wrong])).err.split('\n').slice(0, -2), [
      'command line: `proxy.lanse` is not a known key',
      '  hint: did you mean `lanes`?',
      'command line: `proxy.databases.app.pool_sise` is not a known key',
      '  hint: did you mean `proxy.databases.app.pool_size`?',
      'command line: `proxy.port` is not a setting of the whole fleet: it counts from the start of a process on',
      '  hint: it is only set in the configuration of each proxy',
    ])
    assert.match((await config('unset', 'proxy.databases.my.own')).out, /my\.own was not set for the fleet/)
  })
})
