import assert from 'node:assert/strict'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { need } from '../support/need.ts'
import { until } from '../support/wait.ts'
import { compatModes } from './modes.ts'
import { type CompatServers, md5User, password, scramUser, startCompatServers, urlOf } from './setup.ts'
import { runTool } from './tool.ts'

/** psql and libpq below it. */
const options = need('psql')
let servers: CompatServers
let folder: string

before(async () => {
  if (options.skip) return
  servers = await startCompatServers()
  folder = await mkdtemp(join(tmpdir(), 'pgherd-psql-'))
})
after(async () => {
  await servers?.stop()
  if (folder) await rm(folder, { recursive: true, force: true })
})

for (const mode of compatModes()) {
  describe(`psql, ${mode.name}`, options, () => {
    const port = (): number => servers.targets.find(target => target.mode === mode)!.port

    /** Runs a script and gives back what was printed, unaligned and without headers. */
    const psql = async (script: string, args: string[] = [], env: Record<string, string> = {}) => {
      const all = ['-X', '-q', '-A', '-t', '-v', 'VERBOSITY=sqlstate', ...args, urlOf(port())]
      const { stdout, stderr } = await runTool('psql', all, { input: script, env })
      return (stdout + stderr).trim().split('\n')
    }
    const open = (): Session => new Session(port())

    test('scripts, variables and errors', async () => {
      const script = String.raw`
        select 1 as n \gset
        select :n + 1;
        select 'a', 'b' \g
        select 1/0;
        \echo :ERROR :SQLSTATE
        begin; select 3; savepoint s; select nonsense; rollback to s; commit;
        \if :ERROR
        \echo not here
        \endif
        select format('select %s;', i) from generate_series(1, 3) i \gexec
        select i, i, 'x' from generate_series(1, 2) i \crosstabview`
      assert.deepEqual(await psql(script), [
        ...['2', 'a|b', 'true 22012', '3', '1', '2', '3', '1|x|', '2||x'],
        ...['ERROR:  22012', 'ERROR:  42703'],
      ])
    })

    test('columns described without running the query', async () => {
      assert.deepEqual(await psql(String.raw`select 1 as a, 'x'::text as b, now() as c \gdesc`), [
        ...['a|integer', 'b|text', 'c|timestamp with time zone'],
      ])
    })

    test('parameters bound by \\bind', async t => {
      const { stdout } = await runTool('psql', ['--version'])
      const major = Number(/ (\d+)/.exec(stdout)?.[1])
      if (major < 16) return t.skip(`psql ${major} has no \\bind`)
      assert.deepEqual(await psql(String.raw`select $1::int + $2::int \bind 3 4 \g`), ['7'])
    })

    test('the catalog is listed', async () => {
      const lines = await psql(
        String.raw`create table compat_listed (id serial primary key, t text); \d compat_listed
        \dt compat_listed
        \di compat_listed_pkey
        \df pg_backend_pid
        \dn public
        drop table compat_listed;`,
      )
      assert.ok(lines.some(line => line.includes('compat_listed_pkey')))
      assert.ok(lines.some(line => line.startsWith('public|compat_listed|table')))
    })

    test('rows fetched in portions', async () => {
      const lines = await psql(
        String.raw`\set FETCH_COUNT 100
        select i from generate_series(1, 1050) i;
        select 1/(i - 150) from generate_series(1, 1000) i;
`,
      )
      assert.equal(lines.includes('1050'), true)
      assert.match(lines.at(-1) ?? '', /ERROR: {2}22012/)
    })

    test('copy to and from files, text and binary', async () => {
      const [text, binary] = [join(folder, 'copy.txt'), join(folder, 'copy.bin')]
      const lines = await psql(
        String.raw`create temp table source as select i, md5(i::text) as t from generate_series(1, 30000) i;
        create temp table target (like source);
        \copy source to '${text}' csv header
        \copy target from '${text}' csv header
        \copy (select * from source) to '${binary}' binary
        \copy target from '${binary}' binary
        select count(*), count(distinct t) from target;
        \copy target from stdin
1	not two columns	three
\.
        select count(*) from target;
        copy (select 'x' from generate_series(1, 2)) to stdout;`,
      )
      assert.deepEqual(lines, ['60000|30000', '60000', 'x', 'x', 'ERROR:  22P04'])
      assert.equal((await readFile(text, 'utf8')).split('\n').length, 30_002)
    })

    test('large objects to and from files', async () => {
      const [from, to] = [join(folder, 'copy.bin'), join(folder, 'large.out')]
      await psql(
        String.raw`\lo_import '${from}'
        \lo_export :LASTOID '${to}'
        \lo_unlink :LASTOID`,
      )
      assert.equal((await readFile(from)).equals(await readFile(to)), true)
    })

    test('notifications are shown', async () => {
      const listener = open()
      await listener.run('listen compat_psql;')
      await psql("notify compat_psql, 'hello there';")
      await until('the notification is shown', async () => {
        await listener.run('select 1;')
        return listener.output.includes('hello there')
      })
      assert.equal(await listener.ended(), 0)
    })

    test('an interrupt cancels the query', async () => {
      const session = open()
      session.send("select pg_sleep(30), 'psql cancel';")
      const sql = "select 1 from pg_stat_activity where query like '%psql cancel%' and wait_event = 'PgSleep'"
      await until('the query runs', async () => (await servers.cluster.primary.query(sql)).length > 0)
      session.child.kill('SIGINT')
      await until('psql tells the error', () => session.output.includes('57014'))
      await session.ended()
      await until('the query is gone', async () => (await servers.cluster.primary.query(sql)).length === 0)
    })

    test('another database and user by \\connect', async () => {
      const lines = await psql(
        String.raw`create database compat_other;
        \connect compat_other
        select current_database();
        \connect postgres
        drop database compat_other with (force);
        select current_database();`,
      )
      assert.deepEqual(lines, ['compat_other', 'postgres'])
    })

    test('settings of the environment and of PGOPTIONS', async () => {
      const script = 'show statement_timeout; show timezone; show application_name; show client_encoding;'
      const env = {
        PGOPTIONS: '-c statement_timeout=9s',
        PGTZ: 'Asia/Tokyo',
        PGAPPNAME: 'compat',
        PGCLIENTENCODING: 'LATIN1',
      }
      assert.deepEqual(await psql(script, [], env), ['9s', 'Asia/Tokyo', 'compat', 'LATIN1'])
    })

    test('target_session_attrs and several hosts', async () => {
      const url = `postgresql://postgres@127.0.0.1:1,127.0.0.1:${port()}/postgres?target_session_attrs=read-write`
      const { stdout } = await runTool('psql', ['-X', '-A', '-t', '-c', 'select 1', url])
      assert.equal(stdout.trim(), '1')
    })

    test('logins with a password', async () => {
      for (const user of [scramUser, md5User]) {
        const args = ['-X', '-A', '-t', '-c', 'select current_user', urlOf(port(), user)]
        assert.equal((await runTool('psql', args)).stdout.trim(), user)
        const wrong = urlOf(port(), user).replace(encodeURIComponent(password), 'wrong')
        const { stderr, code } = await runTool('psql', ['-X', '-c', 'select 1', wrong], { mayFail: true })
        assert.match(stderr, /password authentication failed/)
        assert.equal(code, 2)
      }
    })
  })
}

/** A psql that is fed line by line. */
class Session {
  readonly child: ChildProcessWithoutNullStreams
  output = ''
  readonly #exit: Promise<number | null>
  #marks = 0

  constructor(port: number) {
    this.child = spawn('psql', ['-X', '-q', '-A', '-t', '-v', 'VERBOSITY=sqlstate', urlOf(port)])
    this.#exit = new Promise(resolve => this.child.once('exit', resolve))
    // One that has ended by itself reads nothing more.
    this.child.stdin.on('error', () => {})
    for (const stream of [this.child.stdout, this.child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
  }

  send(script: string): void {
    this.child.stdin.write(`${script}\n`)
  }

  /** Sends lines, and resolves when psql has done what they say. */
  async run(script: string): Promise<void> {
    const mark = `mark ${++this.#marks}`
    this.send(`${script}\n\\echo ${mark}`)
    await until(`psql says ${mark}`, () => this.output.includes(mark))
  }

  /** Ends its input, and resolves to its exit code. */
  ended(): Promise<number | null> {
    this.child.stdin.end()
    return this.#exit
  }
}
