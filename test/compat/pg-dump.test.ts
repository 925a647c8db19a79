import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { need } from '../support/need.ts'
import { query } from '../support/postgres.ts'
import { compatModes } from './modes.ts'
import { type CompatServers, startCompatServers, urlOf } from './setup.ts'
import { runTool } from './tool.ts'

/** Dump and restore through the proxy: what comes back is what was there. */
const options = need('pg_dump', 'pg_restore', 'psql', 'vacuumdb')
let servers: CompatServers
let folder: string

before(async () => {
  if (options.skip) return
  servers = await startCompatServers()
  folder = await mkdtemp(join(tmpdir(), 'pgherd-dump-'))
})
after(async () => {
  await servers?.stop()
  if (folder) await rm(folder, { recursive: true, force: true })
})

const content = `
  create type mood as enum ('sad', 'glad');
  create table people (id serial primary key, name text not null, mood mood, extra jsonb, picture bytea);
  insert into people (name, mood, extra, picture)
    select 'person ' || i, (array['sad', 'glad'])[1 + i % 2]::mood, jsonb_build_object('n', i), sha256(i::text::bytea)
      from generate_series(1, 5000) i;
  create table events (at timestamptz, person int references people) partition by range (at);
  create table events_2024 partition of events for values from ('2024-01-01') to ('2025-01-01');
  insert into events select '2024-03-01'::timestamptz + i * interval '1 minute', 1 + i % 5000
    from generate_series(1, 5000) i;
  create view glad as select * from people where mood = 'glad';
  create materialized view counts as select mood, count(*) from people group by mood;
  create function double(n int) returns int language sql immutable as 'select n * 2';
  create index on people using gin (extra);
  select lo_from_bytea(4711, 'a large object')`

const fingerprint = `
  select (select md5(string_agg(p::text, ',' order by id)) from people p) || (select count(*) from events)
      || (select string_agg(c::text, ',' order by mood) from counts c) || (select count(*) from glad) || double(21)
      || encode(lo_get(4711), 'escape') as print`

for (const mode of compatModes()) {
  describe(`pg_dump and pg_restore, ${mode.name}`, options, () => {
    const port = (): number => servers.targets.find(target => target.mode === mode)!.port
    const url = (database: string): string => urlOf(port()).replace(/postgres$/, database)
    const source = `dump_${mode.name}`
    const print = async (database: string): Promise<unknown> =>
      (await query(servers.cluster.primary.port, fingerprint, { database }))[0]?.['print']

    before(async () => {
      await servers.cluster.primary.query(`create database ${source}`)
      await query(servers.cluster.primary.port, content, { database: source })
    })

    const restored = async (name: string, restore: (target: string) => Promise<unknown>): Promise<void> => {
      const database = `${source}_${name}`
      await query(port(), `create database ${database}`)
      await restore(url(database))
      assert.equal(await print(database), await print(source))
    }

    test('a script', async () => {
      const file = join(folder, 'script.sql')
      await runTool('pg_dump', ['-f', file, url(source)])
      await restored('script', target =>
        runTool('psql', ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', file, target]),
      )
    })

    test('a script of INSERT statements in one transaction', async () => {
      const file = join(folder, 'inserts.sql')
      await runTool('pg_dump', ['--inserts', '--rows-per-insert=100', '-f', file, url(source)])
      await restored('inserts', target =>
        runTool('psql', ['-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', file, target]),
      )
    })

    test('the custom format', async () => {
      const file = join(folder, 'custom.dump')
      await runTool('pg_dump', ['-Fc', '-f', file, url(source)])
      await restored('custom', target => runTool('pg_restore', ['--exit-on-error', '-d', target, file]))
    })

    test('a folder, several jobs at once on one snapshot', async () => {
      const file = join(folder, `folder-${mode.name}`)
      await runTool('pg_dump', ['-Fd', '-j', '3', '-f', file, url(source)])
      await restored('folder', target =>
        runTool('pg_restore', ['--exit-on-error', '-j', '3', '-d', target, file]),
      )
    })

    test('vacuumdb with several jobs', async () => {
      await runTool('vacuumdb', ['-q', '--analyze', '-j', '4', '-d', url(source)])
    })
  })
}
