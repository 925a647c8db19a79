import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type Account, serverAccount } from './account.ts'
import { findBinaries } from './binaries.ts'

describe('finding PostgreSQL', () => {
  let dir: string
  let account: Account

  before(async () => {
    account = await serverAccount()
    dir = await mkdtemp(join(tmpdir(), 'pgherd-test-'))
    await chmod(dir, 0o755)
  })
  after(() => rm(dir, { recursive: true, force: true }))

  /** A folder whose programs only tell that version; versions beyond any real one win over what is installed. */
  async function installation(name: string, version: string, programs = ['initdb', 'pg_ctl', 'postgres']) {
    const folder = join(dir, name)
    await mkdir(folder)
    for (const program of programs) {
      await writeFile(join(folder, program), `#!/bin/sh\necho '${program} (PostgreSQL) ${version}'\n`, {
        mode: 0o755,
      })
    }
    return folder
  }

  const find = (path: string, folder?: string) => findBinaries({ account, path, folder, copyTo: dir })

  it('takes the newest of PATH, by number', async () => {
    const older = await installation('older', '990.9')
    const newer = await installation('newer', '990.10 (Debian 990.10-1)')
    const found = await find(`${older}:${newer}:/no/such/folder`)
    assert.deepEqual([found.folder, found.version, found.major], [newer, '990.10', 990])
    assert.equal(found.pgCtl, join(newer, 'pg_ctl'))
  })

  it('passes over folders without all three programs, or whose server does not run', async () => {
    const partial = await installation('partial', '993.1', ['postgres', 'pg_ctl'])
    const broken = await installation('broken', '992.1')
    await writeFile(join(broken, 'postgres'), '#!/bin/sh\necho "postgres (PostgreSQL) 992.1"\nexit 1\n')
    const whole = await installation('whole', '991beta1')
    const found = await find([partial, broken, whole].join(':'))
    assert.deepEqual([found.folder, found.version], [whole, '991'])
  })

  it('follows links to where the programs really are', async () => {
    const real = await installation('real', '994.1')
    const links = join(dir, 'links')
    await mkdir(links)
    for (const program of ['initdb', 'pg_ctl', 'postgres'])
      await symlink(join(real, program), join(links, program))
    assert.equal((await find(links)).folder, real)
  })

  it('takes the folder that was named and no other', async () => {
    const named = await installation('named', '15.1')
    assert.equal((await find(join(dir, 'newer'), named)).folder, named)
    await assert.rejects(find(join(dir, 'newer'), join(dir, 'missing')), {
      code: 'no_binaries',
      message: /PGHERD_POSTGRES_BIN is .*missing, where .* cannot run initdb, pg_ctl and postgres/,
    })
  })

  it('refuses a named one that is too old', async () => {
    const old = await installation('old', '12.22')
    await assert.rejects(find('', old), {
      code: 'no_binaries',
      message: /holds PostgreSQL 12.22: name one of version 13/,
    })
  })
})
