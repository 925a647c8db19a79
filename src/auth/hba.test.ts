import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { findHbaRule, type HbaConnection, hbaRefusal } from './hba.ts'
import { hbaRulesMax, hbaTextBytesMax, parseHba, parseHbaObjects } from './hba-parse.ts'
import { hbaFields } from './hba-tokens.ts'

function rulesOf(text: string) {
  const { rules, problems } = parseHba(text, 'pg_hba.conf')
  assert.deepEqual(problems, [])
  return rules
}

function problemOf(line: string): string {
  const { rules, problems } = parseHba(`# first\n${line}\n`, 'pg_hba.conf')
  assert.deepEqual([rules.length, problems.length], [0, 1], line)
  assert.equal(problems[0]!.line, 2)
  return problems[0]!.message
}

function connection(options: Partial<HbaConnection> = {}): HbaConnection {
  return { address: '10.1.2.3', tls: false, user: 'ada', database: 'app', replication: 'none', ...options }
}

/** The line of the rule that fits, or 0. */
function lineFor(text: string, options: Partial<HbaConnection> = {}): number {
  return findHbaRule(rulesOf(text), connection(options))?.line ?? 0
}

test('fields, lists, quotes and comments are split as PostgreSQL splits them', () => {
  const split = (line: string) => hbaFields(line)?.map(field => field.map(token => token.text))
  assert.deepEqual(split('a\tb  c'), [['a'], ['b'], ['c']])
  assert.deepEqual(split('a,b, c d'), [['a', 'b', 'c'], ['d']])
  assert.deepEqual(split('a ,b'), [['a'], ['b']])
  assert.deepEqual(split(',a'), [['a']])
  assert.deepEqual(split('"a b,#c" d # e'), [['a b,#c'], ['d']])
  assert.deepEqual(split('"say ""hi""" x"y z"w'), [['say "hi"'], ['xy zw']])
  assert.deepEqual(split('a#b'), [['a']])
  assert.deepEqual(split('"" b'), [[''], ['b']])
  assert.deepEqual(split(''), [])
  assert.equal(split('a "b'), undefined)
})

test('the first rule that fits counts', () => {
  const text = [
    'host all bob 0.0.0.0/0 reject',
    'host app all 10.0.0.0/8 md5',
    'host all all all trust',
  ].join('\n')
  assert.equal(lineFor(text, { user: 'bob' }), 1)
  assert.equal(lineFor(text), 2)
  assert.equal(lineFor(text, { database: 'other' }), 3)
  assert.equal(lineFor(text, { address: undefined }), 0)
})

test('types: Unix socket, TCP, with and without TLS', () => {
  const fits = (type: string, options: Partial<HbaConnection>) =>
    lineFor(type === 'local' ? 'local all all trust' : `${type} all all all trust`, options) === 1
  const [local, plain, tls] = [{ address: undefined }, { tls: false }, { tls: true }]
  assert.deepEqual(
    [local, plain, tls].map(options => fits('local', options)),
    [true, false, false],
  )
  assert.deepEqual(
    [local, plain, tls].map(options => fits('host', options)),
    [false, true, true],
  )
  assert.deepEqual(
    [local, plain, tls].map(options => fits('hostssl', options)),
    [false, false, true],
  )
  assert.deepEqual(
    [local, plain, tls].map(options => fits('hostnossl', options)),
    [false, true, false],
  )
})

test('databases and users: words, names, lists, expressions', () => {
  const fits = (database: string, user: string, options: Partial<HbaConnection> = {}) =>
    lineFor(`host ${database} ${user} all trust`, options) === 1
  assert.ok(fits('app,other', 'bob,ada') && !fits('other', 'ada') && !fits('app', 'bob'))
  assert.ok(fits('sameuser', 'all', { database: 'ada' }) && !fits('sameuser', 'all'))
  assert.ok(!fits('"all"', 'all') && fits('"all"', 'all', { database: 'all' }))
  assert.ok(!fits('all', '"all"') && fits('all', '"all"', { user: 'all' }))
  assert.ok(fits('/^a', '"/^(ada|bob)$"') && !fits('/^b', 'all') && !fits('all', '/^da'))
  assert.ok(!fits('App', 'all'), 'names are case-sensitive')
})

test('physical replication is only what the word replication means; a logical one is its database', () => {
  const physical = { replication: 'physical' } as const
  assert.equal(lineFor('host all all all trust', physical), 0)
  assert.equal(lineFor('host replication all all trust', physical), 1)
  assert.equal(lineFor('host "replication" all all trust', { ...physical, database: 'replication' }), 0)
  assert.equal(lineFor('host replication all all trust', { database: 'replication' }), 0)
  assert.equal(lineFor('host replication all all trust', { replication: 'logical' }), 0)
  assert.equal(lineFor('host app all all trust', { replication: 'logical' }), 1)
})

test('addresses: ranges, masks, IPv4 within IPv6', () => {
  assert.equal(lineFor('host all all 10.1.0.0/16 trust'), 1)
  assert.equal(lineFor('host all all 10.2.0.0/16 trust'), 0)
  assert.equal(lineFor('host all all 10.1.0.0 255.255.0.0 trust'), 1)
  assert.equal(lineFor('host all all 10.1.0.0/16 trust', { address: '::ffff:10.1.2.3' }), 1)
  assert.equal(lineFor('host all all ::/0 trust'), 0)
  assert.equal(lineFor('host all all fe80::/10 trust', { address: 'fe80::1%eth0' }), 1)
  assert.equal(lineFor('host all all 0.0.0.0/0 trust', { address: 'not an address' }), 0)
})

test('lines that go on, carriage returns and the number of a line', () => {
  const rules = rulesOf('# comment\r\nhost all \\\r\n  all all trust\r\n\r\nlocal all all reject\r\n')
  assert.deepEqual(
    rules.map(({ line, type, method }) => [line, type, method]),
    [
      [2, 'host', 'trust'],
      [5, 'local', 'reject'],
    ],
  )
})

test('a map for certificates', () => {
  const [plain, mapped] = rulesOf('hostssl all all all cert\nhostssl all all all cert map="m 1"')
  assert.equal(plain?.map, undefined)
  assert.equal(mapped?.map, 'm 1')
})

test('what is not supported or broken is said, with its line', () => {
  const cases: [string, RegExp][] = [
    ['host all all all', /method is missing/],
    ['host all all', /address and the method/],
    ['host', /a rule is/],
    ['tcp all all all trust', /begins with one of .*"tcp"/],
    ['hostgssenc all all all trust', /GSSAPI/],
    ['include other.conf', /include.*not supported/],
    ['host @dbs all all trust', /@file/],
    ['host all @users all trust', /@file/],
    ['host all +admins all trust', /"\+admins".*member/],
    ['host samerole all all trust', /"samerole".*member/],
    ['host all all samehost trust', /"samehost"/],
    ['host all all example.com trust', /host names/],
    ['host all all 10.0.0.1 trust', /10\.0\.0\.1\/32/],
    ['host all all 10.0.0.0 255.0.255.0 trust', /mask/],
    ['host all all 10.0.0.0/33 trust', /not an address range/],
    ['host all all 10.0.0.0/8,11.0.0.0/8 trust', /one address/],
    ['host all all all ldap', /"ldap" is not supported/],
    ['host all all all cert', /hostssl/],
    ['local all all cert', /hostssl/],
    ['hostssl all all all md5 clientcert=verify-full', /clientcert=verify-full/],
    ['hostssl all all all md5 map=x', /only for the method cert/],
    ['host all all all trust extra', /"extra"/],
    ['host /( all all trust', /not a regular expression/],
    ['host all /[[:alpha:]] all trust', /POSIX/],
    ['host "" all all trust', /name is empty/],
    ['host "all all all trust', /quote is not closed/],
  ]
  for (const [line, expected] of cases) assert.match(problemOf(line), expected, line)
})

test('a quoted @ is a name', () => {
  assert.equal(lineFor('host "@app" all all trust', { database: '@app' }), 1)
})

test('objects are rules as well', () => {
  const { rules, problems } = parseHbaObjects(
    [
      { type: 'local', database: 'all', user: ['ada', 'bob'], method: 'trust' },
      { type: 'hostssl', database: 'my db', user: '"all"', address: '10.0.0.0/8', method: 'cert', map: 'm' },
    ],
    'pgherd.yaml',
    'auth.rules',
  )
  assert.deepEqual(problems, [])
  const [local, ssl] = rules
  assert.deepEqual(local?.users, [
    { kind: 'name', name: 'ada' },
    { kind: 'name', name: 'bob' },
  ])
  assert.deepEqual(ssl?.databases, [{ kind: 'name', name: 'my db' }])
  assert.deepEqual(ssl?.users, [{ kind: 'name', name: 'all' }])
  assert.equal(ssl?.map, 'm')
})

test('a value of an object stays in its place, whatever is in it', () => {
  const { rules } = parseHbaObjects(
    [{ type: 'host', database: 'all', user: 'bob # , all', address: 'all', method: 'trust' }],
    'pgherd.yaml',
    'auth.rules',
  )
  assert.deepEqual(rules[0]?.users, [{ kind: 'name', name: 'bob # , all' }])
})

test('problems of objects name their place', () => {
  const rule = { type: 'host', database: 'all', user: 'all', address: 'all', method: 'trust' }
  const { rules, problems } = parseHbaObjects(
    [
      rule,
      { ...rule, method: 'ldap' },
      { ...rule, type: 'local' },
      { ...rule, address: undefined },
      { ...rule, user: [] },
    ],
    'pgherd.yaml',
    'auth.rules',
  )
  assert.equal(rules.length, 1)
  assert.deepEqual(
    problems.map(problem => problem.path),
    ['auth.rules[1]', 'auth.rules[2]', 'auth.rules[3]', 'auth.rules[4]'],
  )
})

test('the table has bounds', () => {
  assert.match(parseHba('#'.repeat(hbaTextBytesMax + 1), 'f').problems[0]!.message, /bytes/)
  assert.match(
    parseHba('local all all trust\n'.repeat(hbaRulesMax + 1), 'f').problems[0]!.message,
    /more than/,
  )
})

test('no text is an exception, and none that is half understood is a rule', () => {
  const word = fc.constantFrom(
    'host',
    'local',
    'all',
    ' ',
    '"',
    ',',
    '#',
    '\\',
    '\n',
    '10.0.0.0/8',
    'trust',
    '/[',
    '+x',
  )
  fc.assert(
    fc.property(fc.array(word, { maxLength: 20 }), words => {
      const text = words.join(' ')
      const { rules, problems } = parseHba(text, 'f')
      for (const { line } of [...rules, ...problems]) assert.ok(line >= 1 && line <= text.split('\n').length)
    }),
  )
})

test('a refusal says what PostgreSQL says', () => {
  assert.equal(
    hbaRefusal(undefined, connection()),
    'no entry in pgherd\'s access rules (as in pg_hba.conf) for host "10.1.2.3", user "ada", database "app", no encryption',
  )
  const [rule] = rulesOf('host all all all reject')
  assert.equal(
    hbaRefusal(rule, connection({ tls: true })),
    'pgherd\'s access rules reject connection for host "10.1.2.3", user "ada", database "app", SSL encryption',
  )
  assert.equal(
    hbaRefusal(undefined, connection({ address: undefined, replication: 'physical' })),
    'no entry in pgherd\'s access rules (as in pg_hba.conf) for replication connection from local connection, user "ada"',
  )
})
