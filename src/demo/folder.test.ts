import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import type { Account } from './account.ts'
import { checkVersion, isStandby, newestTimeline, runningPid, socketFolder, writeSettings } from './folder.ts'

const account: Account = { name: 'this user', identity: undefined }

describe('a data folder', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pgherd-test-'))
    await mkdir(join(folder, 'pg_wal'))
    await writeFile(join(folder, 'postgresql.conf'), 'port = 5432\n')
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  it('is given its settings and its role, and only one include however often', async () => {
    const settings = { port: 6000, applicationName: 'b', followsPort: 6001, extra: { cluster_name: `it's` } }
    await writeSettings(folder, settings, account)
    await writeSettings(folder, settings, account)
    const text = await readFile(join(folder, 'pgherd.conf'), 'utf8')
    assert.match(text, /^port = '6000'$/m)
    assert.match(text, /^cluster_name = 'it''s'$/m)
    assert.match(text, /^primary_conninfo = 'host=127.0.0.1 port=6001 user=postgres application_name=b'$/m)
    const main = await readFile(join(folder, 'postgresql.conf'), 'utf8')
    assert.equal(main.split('include').length, 2)
    assert.ok(await isStandby(folder))
    await writeSettings(folder, { ...settings, followsPort: undefined }, account)
    assert.ok(!(await isStandby(folder)))
  })

  it('tells its newest timeline by its WAL and history', async () => {
    assert.equal(await newestTimeline(folder), 1)
    for (const name of [
      '00000002000000000000000A',
      '0000000B.history',
      '000000FF.partial',
      'archive_status',
    ]) {
      await writeFile(join(folder, 'pg_wal', name), '')
    }
    assert.equal(await newestTimeline(folder), 11)
  })

  it('is not taken for in use because of what a crashed server left', async () => {
    assert.equal(await runningPid(folder), undefined)
    await writeFile(join(folder, 'postmaster.pid'), '999999999\n')
    assert.equal(await runningPid(folder), undefined)
  })

  it('is not taken for in use because another program has the process id now', {
    skip: process.platform !== 'linux',
  }, async () => {
    await writeFile(join(folder, 'postmaster.pid'), `${process.pid}\n`)
    assert.equal(await runningPid(folder), undefined)
  })

  it('must say the version that the programs have; where others fit, they are named', async () => {
    const programs = (version: string, at: string) =>
      ({
        folder: at,
        version,
        major: Number.parseInt(version, 10),
        initdb: '',
        pgCtl: '',
        postgres: '',
      }) as const
    const ours = programs('15.4', '/pg15/bin')
    const file = join(folder, 'PG_VERSION')
    await assert.rejects(checkVersion(folder, ours), {
      message: /not a PostgreSQL data folder and not empty/,
    })
    for (const broken of ['', 'x\n', '15x\n']) {
      await writeFile(file, broken)
      const message = /is no PostgreSQL data folder, or is damaged: its PG_VERSION says no version/
      await assert.rejects(checkVersion(folder, ours), { code: 'folder_unusable', message })
    }
    await writeFile(file, '18\n')
    const hint =
      /was made by PostgreSQL 18, .* run with PGHERD_POSTGRES_BIN=\/pg18\/bin, where PostgreSQL 18\.4 is/
    await assert.rejects(checkVersion(folder, ours, programs('18.4', '/pg18/bin')), { message: hint })
    const other = /set PGHERD_POSTGRES_BIN to the programs of PostgreSQL 18/
    await assert.rejects(checkVersion(folder, ours, programs('17.1', '/pg17/bin')), { message: other })
    await writeFile(file, '15\n')
    await checkVersion(folder, ours)
  })

  it('holds the unix socket unless its path is too long for one', () => {
    assert.equal(socketFolder('/tmp/a'), '/tmp/a')
    assert.equal(socketFolder(`/tmp/${'a'.repeat(90)}`), undefined)
  })
})
