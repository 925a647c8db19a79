import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { load, loaded, problems } from '../../test/support/config.ts'
import { fields } from './keys.ts'
import { formatProblem } from './problem.ts'

describe('what is right', () => {
  test('an empty file, a comment and empty sections give the defaults', () => {
    const config = loaded('')
    assert.equal(config.cluster, 'main')
    assert.equal(config.proxy.query_wait_timeout, 120_000)
    assert.equal(config.routing.replica_lag_max, 16 * 1024 * 1024)
    assert.equal(config.proxy.id, 'box.example-6432')
    assert.equal(config.store.tls, undefined)
    for (const text of ['# nothing\n', '---\n', 'proxy:\n  # port: 1\nnodes:\nagent:\n  postgres:\n']) {
      assert.deepEqual(loaded(text), config, text)
    }
  })

  test('units are converted, and names are made for nodes without one', () => {
    const config = loaded(
      'nodes:\n  - host: 10.0.0.1\n  - {host: b, port: 5433}\n  - {name: c, host: d, tags: {rack: "7"}}\n' +
        'routing: {drain_timeout: 0, replica_lag_max: 64kB}\nproxy: {workers: 4, failover_wait: 1.5s}\n',
    )
    assert.deepEqual(
      config.nodes.map(({ name }) => name),
      ['10.0.0.1', 'b-5433', 'c'],
    )
    assert.deepEqual(config.nodes[2]?.tags, { rack: '7' })
    assert.equal(config.routing.drain_timeout, 0)
    assert.equal(config.routing.replica_lag_max, 65_536)
    assert.equal(config.proxy.workers, 4)
    assert.equal(config.proxy.failover_wait, 1500)
  })

  test('every default is a valid value of its own key', () => {
    for (const { pattern, byDefault } of fields) {
      if (byDefault === undefined || pattern.includes('[]')) continue
      const [section = '', ...rest] = pattern.split('.').reverse()
      const nested = rest.reduce<unknown>((value, name) => ({ [name]: value }), { [section]: byDefault })
      assert.deepEqual(loaded(JSON.stringify(nested)), loaded(''), pattern)
    }
  })
})

describe('what is wrong has its place', () => {
  const cases: [name: string, text: string, expected: string[]][] = [
    [
      'a misspelt key',
      'proxy:\n  query_wait_timeot: 1s\n',
      ['/etc/p.yaml:2:3: `proxy.query_wait_timeot` is not a known key (did you mean `query_wait_timeout`?)'],
    ],
    [
      'a key of another section',
      'query_wait_timeout: 1s\n',
      ['/etc/p.yaml:1:1: `query_wait_timeout` is not a known key (did you mean `proxy.query_wait_timeout`?)'],
    ],
    [
      'a key of PgBouncer',
      'proxy:\n  listen_addr: 127.0.0.1\n',
      ['/etc/p.yaml:2:3: `proxy.listen_addr` is not a known key (did you mean `proxy.listen`?)'],
    ],
    ['a key like no other', 'frobnicate: 1\n', ['/etc/p.yaml:1:1: `frobnicate` is not a known key']],
    [
      'a key named like a property of every object',
      '__proto__: {port: 1}\nconstructor: 1\n',
      [
        '/etc/p.yaml:1:1: `__proto__` is not a known key',
        '/etc/p.yaml:2:1: `constructor` is not a known key',
      ],
    ],
    [
      'a number out of range',
      'proxy:\n  port: 70000\n',
      ['/etc/p.yaml:2:9: `proxy.port` must be a port from 1 to 65535, not `70000`'],
    ],
    [
      'a number as text',
      'proxy:\n  port: "6432"\n',
      [
        '/etc/p.yaml:2:9: `proxy.port` must be a port from 1 to 65535, not `6432` ' +
          '(a number stands without quotes)',
      ],
    ],
    [
      'a duration without a unit',
      'proxy:\n  query_wait_timeout: 120\n',
      [
        '/etc/p.yaml:2:23: `proxy.query_wait_timeout` must be a duration from 100ms to 24d, such as `2m`, ' +
          'not `120` (a duration needs a unit: `120s` for seconds, `120ms` for milliseconds)',
      ],
    ],
    [
      'a duration out of range',
      'store: {lease_ttl: 1s, request_timeout: 200ms}\n',
      ['/etc/p.yaml:1:20: `store.lease_ttl` must be a duration from 2s to 10m, such as `10s`, not `1s`'],
    ],
    [
      'a size in the wrong case',
      'routing:\n  replica_lag_max: 16mb\n',
      [
        '/etc/p.yaml:2:20: `routing.replica_lag_max` must be a size from 0 to 1024TB, such as `16MB`, ' +
          'not `16mb` (did you mean `16MB`?)',
      ],
    ],
    [
      'a misspelt choice',
      'log:\n  level: wran\n',
      [
        '/etc/p.yaml:2:10: `log.level` must be one of `debug`, `info`, `warn`, `error`, `fatal`, `silent`, ' +
          'not `wran` (did you mean `warn`?)',
      ],
    ],
    [
      'a host with a port',
      'nodes:\n  - host: db1:5433\n',
      [
        '/etc/p.yaml:2:11: `nodes[0].host` must be a host name or an IP address, without a port, ' +
          'not `db1:5433` (the port has a key of its own)',
      ],
    ],
    [
      'a missing key',
      'nodes:\n  - name: a\n  - host: b\n',
      [
        '/etc/p.yaml:2:5: `nodes[0].host` is missing: it must be a host name or an IP address, without a port',
      ],
    ],
    [
      'a text in place of a section',
      'proxy: 6432\n',
      ['/etc/p.yaml:1:8: `proxy` must be a mapping of keys to values, not a number'],
    ],
    [
      'a mapping in place of a list',
      'nodes: {host: a}\n',
      ['/etc/p.yaml:1:8: `nodes` must be a list of mappings, as in `- host: 10.0.0.1`, not a mapping'],
    ],
    [
      'a text in place of a list',
      'store: {kind: etcd, endpoints: "a:2379"}\n',
      [
        '/etc/p.yaml:1:32: `store.endpoints` must be a list of up to 32 endpoints, not `a:2379` ' +
          '(a list is written `[a, b]`)',
      ],
    ],
    [
      'one wrong element of a list',
      'store:\n  kind: etcd\n  endpoints:\n    - a:2379\n    - b\n',
      [
        '/etc/p.yaml:5:7: `store.endpoints[1]` must be an endpoint: `host:port`, `http://host:port` or ' +
          '`https://host:port`, not `b`',
      ],
    ],
    [
      'a number for a tag',
      'agent:\n  tags: {rack: 7}\n',
      ['/etc/p.yaml:2:16: `agent.tags.rack` must be a text, not `7` (put the text in quotes)'],
    ],
    [
      'a key without a value',
      'cluster:\n',
      ['/etc/p.yaml:1:9: `cluster` has no value (give it one, or remove the key)'],
    ],
    [
      'a number for a name',
      'cluster: 7\n',
      [
        '/etc/p.yaml:1:10: `cluster` must be a name of up to 63 letters, digits, `.`, `_` and `-` that begins ' +
          'with a letter or a digit, not `7` (put the text in quotes)',
      ],
    ],
    [
      'a key twice',
      'cluster: a\ncluster: b\n',
      ['/etc/p.yaml:2:1: `cluster` stands here twice (keep one of the two)'],
    ],
  ]
  for (const [name, text, expected] of cases) {
    test(name, () => assert.deepEqual(problems(text), expected))
  }

  test('all problems are found at once, in the order of the file', () => {
    const text = 'clustr: x\nproxy:\n  port: 0\n  read_prt: 1\nadmin:\n  listen: 0.0.0.0\nlog: []\nlog: {}\n'
    const places = problems(text).map(line => line.split(': ')[0])
    assert.deepEqual(places, [
      '/etc/p.yaml:1:1',
      '/etc/p.yaml:3:9',
      '/etc/p.yaml:4:3',
      '/etc/p.yaml:6:11',
      '/etc/p.yaml:8:1',
    ])
  })
})

describe('syntax errors have their place and sentence', () => {
  const cases: [text: string, expected: RegExp][] = [
    ['proxy:\n\tport: 1\n', /:2:1: a tab stands where/],
    ['proxy:\n  port: 1\n read_port: 2\n', /:3:1: the indentation fits no line/],
    [
      'cluster: @a\n',
      /:1:10: a value begins with a character that YAML reserves \(put the value in quotes\)/,
    ],
    ['cluster: "a\n', /:2:1: a closing quote/],
    ['cluster: "\\q"\n', /:1:11: an escape in a double-quoted text/],
    ['cluster: a: b\n', /:1:10: a line holds two keys/],
    ['cluster\nlog: {}\n', /:1:1: a key is not followed by a colon/],
    ['cluster: a\n---\ncluster: b\n', /:2:1: a second document begins/],
    ['- a\n', /:1:1: the file must hold keys/],
    ['just text', /:1:1: the file must hold keys/],
    ['? [a]\n: b\n', /a key must be a plain text/],
    ['cluster: *a\n', /:1:10: `cluster` begins with `\*`, which YAML takes for an alias \(put/],
    ['cluster: &a b\n', /`cluster` begins with `&`, which YAML takes for an anchor/],
    ['cluster: !a b\n', /`cluster` begins with `!`, which YAML takes for a tag/],
    [`cluster: ${'['.repeat(50)}${']'.repeat(50)}\n`, /nested too deeply/],
    [`cluster: ${'['.repeat(100_000)}`, /./],
    [`# ${'x'.repeat(1024 * 1024)}`, /:1:1: the file is larger than 1 MB/],
  ]
  for (const [text, expected] of cases) {
    test(JSON.stringify(text.slice(0, 40)), () => assert.match(problems(text)[0] ?? '', expected))
  }

  test('no text at all makes it throw', () => {
    const piece = fc.constantFrom(
      'proxy',
      ':',
      ' ',
      '\n',
      '  ',
      '- ',
      '{',
      '}',
      '"',
      '&',
      '*',
      '!',
      '|',
      '#',
      '7',
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece).map(parts => parts.join('')),
        ),
        text => {
          const result = load(text)
          if (!result.ok) assert.ok(result.problems.every(({ line, column }) => line > 0 && column > 0))
        },
      ),
      { numRuns: 500 },
    )
  })
})

describe('rules between keys', () => {
  const cases: [name: string, text: string, expected: RegExp][] = [
    ['etcd without endpoints', 'store:\n  kind: etcd\n', /:1:1: `store.endpoints` must name at least one/],
    ['endpoints without etcd', 'store:\n  endpoints: ["a:1"]\n', /:2:14: `store.endpoints` is for etcd/],
    ['TLS without etcd', 'store:\n  tls: {}\n', /:2:8: `store.tls` is for etcd/],
    [
      'plain endpoint with TLS',
      'store: {kind: etcd, tls: {}, endpoints: ["http://a:1"]}',
      /begins with `http:/,
    ],
    [
      'password without user',
      'store: {kind: etcd, endpoints: ["a:1"], password: x}',
      /`store.user` must be set/,
    ],
    ['user without password', 'store: {kind: etcd, endpoints: ["a:1"], user: x}', /`store.user` needs/],
    ['lease shorter than request', 'store: {lease_ttl: 2s}', /`store.request_timeout` must be shorter/],
    [
      'one port twice',
      'proxy:\n  read_port: 6432\n',
      /:2:14: `proxy.read_port` must differ from `proxy.port`/,
    ],
    ['one agent port twice', 'agent: {check_port: 8008}', /`agent.check_port` must differ/],
    ['open admin', 'admin:\n  listen: 0.0.0.0\n', /:2:11: `admin.listen` is `0.0.0.0`, which other machines/],
    [
      'one address twice',
      'nodes:\n  - host: a\n  - host: a\n',
      /:3:11: `nodes\[1\].host` is `a:5432`, the addr/,
    ],
    [
      'one name twice',
      'nodes: [{host: a}, {host: b, name: a}]',
      /:1:36: `nodes\[1\].name` makes the name `a`/,
    ],
  ]
  for (const [name, text, expected] of cases) {
    test(name, () => {
      const found = problems(text)
      assert.equal(found.length, 1, found.join('\n'))
      assert.match(found[0]!, expected)
    })
  }

  test('a client certificate needs its key, and a password has one place', () => {
    const files = { '/etc/c.pem': 'c', '/etc/pw': 'pw' }
    const certificate = 'store: {kind: etcd, endpoints: ["a:1"], tls: {cert_file: c.pem}}'
    assert.match(problems(certificate, { files })[0]!, /`store.tls.cert_file` needs `store.tls.key_file`/)
    const both = 'probe:\n  password: x\n  password_file: pw\n'
    assert.match(problems(both, { files })[0]!, /:3:18: `probe.password_file` is set as well as `password`/)
    const tokens = 'admin: {token: x, token_file: pw}'
    assert.match(problems(tokens, { files })[0]!, /`admin.token_file` is set as well/)
  })

  test('0 turns both agent ports off, and a token opens the admin interface', () => {
    loaded('agent: {http_port: 0, check_port: 0}\nadmin: {listen: "::", token: x}\n')
    loaded('admin: {listen: 0.0.0.0, port: 0}')
  })
})

describe('files that keys name', () => {
  test('a secret is read from beside the configuration, without its newline', () => {
    const files = { '/etc/pw': 'geheim \n' }
    const config = loaded('probe:\n  password_file: pw\n', { files })
    assert.equal(config.probe.password, 'geheim ')
    assert.equal(config.probe.password_file, '/etc/pw')
  })

  test('a missing, empty or too long one is a problem at its key', () => {
    const text = 'probe:\n  password_file: pw\n'
    assert.deepEqual(problems(text), [
      '/etc/p.yaml:2:18: `probe.password_file` names `/etc/pw`, which does not exist',
    ])
    assert.match(problems(text, { files: { '/etc/pw': '\n' } })[0]!, /which is empty/)
    assert.match(problems(text, { files: { '/etc/pw': 'x'.repeat(5000) } })[0]!, /longer than the 4096/)
    assert.match(
      problems('store: {kind: etcd, endpoints: ["a:1"], tls: {ca_file: /no}}')[0]!,
      /ca_file` names/,
    )
  })

  test('files of sections that a command does not need are not read', () => {
    const config = loaded('probe:\n  password_file: pw\n', { sections: ['store'] })
    assert.equal(config.probe.password, undefined)
    assert.equal(config.probe.password_file, '/etc/pw')
  })

  test('a secret that every user can read is a warning', () => {
    const open = load('probe: {password_file: pw}', { files: { '/etc/pw': { text: 'x', mode: 0o644 } } })
    assert.match(
      open.warnings.map(formatProblem).join(),
      /password_file` names `\/etc\/pw`, which every user/,
    )
    const inline = load('admin:\n  token: x\n', { mode: 0o644 })
    assert.match(
      inline.warnings.map(formatProblem).join(),
      /^\/etc\/p.yaml:2:3: `admin.token` is a secret in/,
    )
    assert.deepEqual(load('admin:\n  token: x\n', { mode: 0o640 }).warnings, [])
    assert.deepEqual(load('cluster: x\n', { mode: 0o644 }).warnings, [])
  })

  test('a file that a variable names is meant from the working folder', () => {
    const env = { PGHERD_PROBE_PASSWORD_FILE: 'pw' }
    assert.equal(loaded('', { env, files: { pw: 'x' } }).probe.password, 'x')
  })
})
