import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseUsersFile, usersFileBytesMax } from './users-file.ts'

const verifier =
  'SCRAM-SHA-256$4096:nqmVpCa2fBWyqiK3tKseYA==$' +
  'a5H3Gprq/oJI4IadD5Qcp6k8Iu+t7sp2wcs2saM1QyE=:ac2dP92VcQJiNhujRm4uw2Sz3USHQ0c+AFhKV5xk6cc='

test('users of every kind, comments and what follows on a line', () => {
  const { users, problems } = parseUsersFile(
    [
      '; a comment',
      '',
      '"ada" "pencil"',
      '  "bob"\t"md57dce7fd2794947e678b6ba84d213ca17" "more" of it',
      `"cyd" "${verifier}"\r`,
      '"say ""hi""" "a ""b"" ; # c"',
      '"nobody" ""',
    ].join('\n'),
    'userlist.txt',
  )
  assert.deepEqual(problems, [])
  assert.deepEqual(users.get('ada'), { kind: 'plain', password: 'pencil' })
  assert.equal(users.get('bob')?.kind, 'md5')
  assert.equal(users.get('cyd')?.kind, 'scram')
  assert.deepEqual(users.get('say "hi"'), { kind: 'plain', password: 'a "b" ; # c' })
  assert.ok(users.has('nobody') && users.get('nobody') === undefined)
})

test('any name and password can be written', () => {
  const text = fc.string({ minLength: 1, maxLength: 20 }).filter(text => !/[\0\r\n]|^md5|^SCRAM/.test(text))
  const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`
  fc.assert(
    fc.property(text, text, (name, password) => {
      const { users, problems } = parseUsersFile(`${quoted(name)} ${quoted(password)}`, 'f')
      assert.deepEqual(problems, [])
      assert.deepEqual([...users], [[name, { kind: 'plain', password }]])
    }),
  )
})

test('a broken line is named by its number, and its secret stays where it is', () => {
  const cases = [
    '"ada" hunter2',
    'ada "hunter2"',
    '"ada" "hunter2',
    '"ada""hunter2"',
    '"ada"',
    'hunter2',
    '"" "hunter2"',
    `"${'x'.repeat(300)}" "hunter2"`,
    '"ada" "hunter2"x',
    '"ada" "hunter2\0"',
    '"ada" "SCRAM-SHA-256$hunter2"',
    `"ada" "${'hunter2'.repeat(4000)}"`,
    '# "ada" "hunter2"',
  ]
  for (const line of cases) {
    const { users, problems } = parseUsersFile(`"first" "x"\n${line}\n"last" "x"`, 'f')
    assert.deepEqual([...users.keys()], ['first', 'last'], line.slice(0, 40))
    assert.deepEqual(
      problems.map(problem => problem.line),
      [2],
    )
    assert.doesNotMatch(JSON.stringify(problems), /hunter2/)
  }
})

test('a user who stands there twice is a problem, since one of the secrets is wrong', () => {
  const { users, problems } = parseUsersFile('"ada" "one"\n"ada" "two"', 'f')
  assert.deepEqual(users.get('ada'), { kind: 'plain', password: 'one' })
  assert.deepEqual(
    problems.map(problem => problem.line),
    [2],
  )
})

test('the file has a bound', () => {
  const { users, problems } = parseUsersFile(`"ada" "x"\n${';'.repeat(usersFileBytesMax)}`, 'f')
  assert.deepEqual([users.size, problems.length], [0, 1])
})

test('a long line of quotes is read in one go', () => {
  parseUsersFile(`"${'""'.repeat(500_000)}`, 'f')
  parseUsersFile(`${' '.repeat(500_000)}x`, 'f')
})
