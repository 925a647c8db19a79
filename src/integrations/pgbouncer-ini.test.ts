import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { PgBouncerIniError, readConnectionString, readPgBouncerIni } from './pgbouncer-ini.ts'

function read(files: Record<string, string> | string) {
  const all: Record<string, string> = typeof files === 'string' ? { '/etc/b.ini': files } : files
  return readPgBouncerIni('/etc/b.ini', path => {
    const text = all[path]
    if (text === undefined) throw Object.assign(new Error(path), { code: 'ENOENT' })
    return { text, mode: 0o600 }
  })
}

describe('the file', () => {
  test('has sections, settings and comments; a sign of a comment within a value is a part of it', () => {
    const entries = read(
      '; a\n# b\n\n[databases]\r\n  app = host=a  \r\n[pgbouncer]\nauth_query=select 1 ; # no\nlogfile =\n',
    )
    assert.deepEqual(
      entries.map(({ section, key, value, line }) => [section, key, value, line]),
      [
        ['databases', 'app', 'host=a', 5],
        ['pgbouncer', 'auth_query', 'select 1 ; # no', 7],
        ['pgbouncer', 'logfile', '', 8],
      ],
    )
  })

  test('names with other signs stand in quotes, which are doubled within', () => {
    const keys = read('[databases]\n"a ""b"" = c" = x\n\'d e\' = y\n* = z\nf.g-h = u\n').map(({ key }) => key)
    assert.deepEqual(keys, ['a "b" = c', 'd e', '*', 'f.g-h'])
  })

  test('included files go on in the section, and are looked for beside the file', () => {
    const entries = read({
      '/etc/b.ini': '[pgbouncer]\n%include more.ini\nverbose = 1\n',
      '/etc/more.ini': 'pool_mode = session\n[users]\nu = pool_size=1\n',
    })
    assert.deepEqual(
      entries.map(({ section, key, file, line }) => [section, key, file, line]),
      [
        ['pgbouncer', 'pool_mode', '/etc/more.ini', 1],
        ['users', 'u', '/etc/more.ini', 3],
        ['users', 'verbose', '/etc/b.ini', 3],
      ],
    )
  })

  test('one that cannot be read says where, and shows nothing of it', () => {
    const wrong: [Record<string, string> | string, PgBouncerIniError['code'], RegExp][] = [
      [{}, 'unreadable', /^\/etc\/b\.ini: the file does not exist$/],
      ['[pgbouncer]\npool_mode = a\nhunter2\n', 'syntax', /^\/etc\/b\.ini:3: neither/],
      ['[pgbouncer\n', 'syntax', /^\/etc\/b\.ini:1: neither/],
      ['%include missing.ini\n', 'unreadable', /^\/etc\/missing\.ini: the file does not exist$/],
      ['%include /etc/b.ini\n', 'too_much', /line 1 includes files too deeply/],
      ['a = 1\n'.repeat(100_001), 'too_much', /more than 100000 settings/],
    ]
    for (const [files, code, message] of wrong) {
      assert.throws(
        () => read(files),
        (error: unknown) => {
          assert.ok(error instanceof PgBouncerIniError)
          assert.equal(error.code, code)
          assert.match(error.message, message)
          assert.doesNotMatch(error.message, /hunter2/)
          return true
        },
      )
    }
  })

  test('whatever it holds, it is read or refused', () => {
    const piece = fc.constantFrom(
      '[',
      ']',
      '=',
      ' ',
      '\n',
      '"',
      "'",
      ';',
      '%include x',
      'databases',
      'a',
      '\0',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), pieces => {
        try {
          for (const { key } of read(pieces.join(''))) assert.notEqual(key, '')
        } catch (error) {
          assert.ok(error instanceof PgBouncerIniError, String(error))
        }
      }),
    )
  })
})

describe('a connection string', () => {
  test('is pairs of names and values, quoted where they hold a blank', () => {
    assert.deepEqual(readConnectionString("host=a  port = 5433 connect_query='select ''x'' = 1' user=b "), [
      { name: 'host', value: 'a' },
      { name: 'port', value: '5433' },
      { name: 'connect_query', value: "select 'x' = 1" },
      { name: 'user', value: 'b' },
    ])
    assert.deepEqual(readConnectionString(''), [])
  })

  test('is refused where PgBouncer refuses it', () => {
    for (const text of ['host', 'host=', '=a', "host='a", "host=''", 'host=a b']) {
      assert.equal(readConnectionString(text), undefined, text)
    }
  })

  test('what is written is read', () => {
    const name = fc.stringMatching(/^[a-z_]{1,10}$/)
    const value = fc.string({ minLength: 1 })
    fc.assert(
      fc.property(fc.array(fc.record({ name, value }, { noNullPrototype: true })), parameters => {
        const text = parameters.map(({ name, value }) => `${name}='${value.replaceAll("'", "''")}'`)
        assert.deepEqual(readConnectionString(text.join(' ')), parameters)
      }),
    )
  })
})
