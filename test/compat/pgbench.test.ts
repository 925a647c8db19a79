import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { need } from '../support/need.ts'
import { compatModes } from './modes.ts'
import { type CompatServers, startCompatServers, urlOf } from './setup.ts'
import { runTool } from './tool.ts'

/** pgbench with every way of sending queries; its counts are checked against what the server holds afterwards. */
const options = need('pgbench')
const clients = 20
let servers: CompatServers
let folder: string

before(async () => {
  if (options.skip) return
  servers = await startCompatServers()
  folder = await mkdtemp(join(tmpdir(), 'pgherd-pgbench-'))
})
after(async () => {
  await servers?.stop()
  if (folder) await rm(folder, { recursive: true, force: true })
})

const pipelined = String.raw`\set n random(1, 1000)
\startpipeline
select abalance from pgbench_accounts where aid = :n;
begin;
update pgbench_accounts set abalance = abalance + 1 where aid = :n;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, :n, 1, now());
end;
select 1;
\endpipeline
`
const fetched = String.raw`begin;
select count(*) as before from pgbench_history \gset
insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, 1, 1, now());
select 1 / (count(*) - :before) as grew from pgbench_history \gset
end;
`

for (const mode of compatModes()) {
  describe(`pgbench, ${mode.name}`, options, () => {
    const url = (): string => urlOf(servers.targets.find(target => target.mode === mode)!.port)
    const pgbench = async (...args: string[]): Promise<string> =>
      (await runTool('pgbench', [...args, url()])).stdout
    const historyRows = async (): Promise<number> => {
      const sql = 'select count(*)::int as n from pgbench_history'
      const [row] = await servers.cluster.primary.query<{ n: number }>(sql)
      return row?.n ?? -1
    }

    test('tables are made and filled by COPY and by the server', async () => {
      await pgbench('-i', '-q', '-s', '2')
      await pgbench('-i', '-q', '-s', '2', '-I', 'dtGvpf')
    })

    for (const protocol of ['simple', 'extended', 'prepared']) {
      test(`-M ${protocol}`, async () => {
        for (const script of ['tpcb-like', 'simple-update', 'select-only']) {
          const before = await historyRows()
          const args = ['-n', '-M', protocol, '-c', String(clients), '-j', '2', '-t', '20', '-b', script]
          const report = await pgbench(...args)
          const done = clients * 20
          assert.match(report, new RegExp(`actually processed: ${done}/${done}`))
          assert.match(report, /failed transactions: 0 /)
          assert.equal((await historyRows()) - before, script === 'select-only' ? 0 : done)
        }
      })

      test(`-M ${protocol}, a connection for each transaction`, async () => {
        const report = await pgbench('-n', '-C', '-S', '-M', protocol, '-c', '5', '-t', '10')
        assert.match(report, /actually processed: 50\/50/)
      })

      test(`-M ${protocol}, values that a script fetches`, async () => {
        const file = join(folder, 'fetched.sql')
        await writeFile(file, fetched)
        const report = await pgbench('-n', '-M', protocol, '-c', '1', '-t', '50', '-f', file)
        assert.match(report, /actually processed: 50\/50/)
      })
    }

    for (const protocol of ['extended', 'prepared']) {
      test(`-M ${protocol}, pipelines`, async () => {
        const file = join(folder, 'pipelined.sql')
        await writeFile(file, pipelined)
        const before = await historyRows()
        const report = await pgbench('-n', '-M', protocol, '-c', String(clients), '-t', '50', '-f', file)
        assert.match(report, new RegExp(`actually processed: ${clients * 50}/${clients * 50}`))
        assert.equal((await historyRows()) - before, clients * 50)
      })
    }

    test('serializable transactions are tried again', async () => {
      const args = ['-n', '-c', '8', '-t', '20', '--max-tries=100', '-b', 'tpcb-like']
      const { stdout } = await runTool('pgbench', [...args, url()], {
        env: { PGOPTIONS: '-c default_transaction_isolation=serializable' },
      })
      assert.match(stdout, /actually processed: 160\/160/)
    })
  })
}
