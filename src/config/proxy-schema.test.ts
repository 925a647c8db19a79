import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { loadConfig } from './load.ts'
import { formatProblem } from './problem.ts'
import { planReload, reloadReport } from './reload.ts'
import { effectiveConfig, effectiveYaml } from './show.ts'

function load(text: string, env: Record<string, string> = {}) {
  const readFile = (path: string) => {
    if (path.includes('missing')) throw Object.assign(new Error(path), { code: 'ENOENT' })
    return { text: 'pw-canary\n', mode: path.includes('open') ? 0o644 : 0o600 }
  }
  return loadConfig({ text, file: '/etc/p.yaml', env, hostName: 'box', readFile })
}

function loaded(text: string, env: Record<string, string> = {}) {
  const result = load(text, env)
  assert.ok(result.ok, JSON.stringify(result))
  return result
}

function problems(text: string): string[] {
  const result = load(text)
  return result.ok ? [] : result.problems.map(formatProblem)
}

describe('databases and users', () => {
  const text = `proxy:
  databases:
    app.x: {dbname: app, pool_size: 3, pool_mode: auto}
    "*": {min_pool_size: 1}
  users:
    batch: {query_timeout: 90s, client_idle_timeout: 0}
`

  test('hold what is said of them and no more', () => {
    const { databases, users } = loaded(text).config.proxy
    assert.deepEqual(databases, {
      'app.x': { dbname: 'app', pool_size: 3, pool_mode: 'auto' },
      '*': { min_pool_size: 1 },
    })
    assert.deepEqual(users, { batch: { query_timeout: 90_000, client_idle_timeout: 0 } })
  })

  test('are shown one a line, and mean the same when loaded again', () => {
    const { config, origins } = loaded(text)
    const yaml = effectiveYaml(effectiveConfig(config, origins))
    assert.match(yaml, /^ {2}databases: +# \/etc\/p\.yaml:2\n {4}app\.x: \{ dbname: app, /m)
    assert.match(yaml, /^ {4}batch: \{ query_timeout: 90s, client_idle_timeout: 0 \}$/m)
    assert.deepEqual(loaded(yaml).config, config)
  })

  test('change live', () => {
    const plan = planReload(loaded('').config, load(text))
    assert.equal(plan.applied.proxy.users['batch']?.query_timeout, 90_000)
    assert.equal(plan.restart.length, 0)
    assert.match(reloadReport(plan).join('\n'), /applied: proxy\.users changed from \{\} to .*"90s"/)
  })

  test('a mistake has its place', () => {
    const wrong = [
      [
        'proxy:\n  databases:\n    app: {pol_size: 1}',
        '/etc/p.yaml:3:11: `proxy.databases.app.pol_size` is not a known key',
      ],
      [
        'proxy:\n  databases:\n    app: 7',
        '/etc/p.yaml:3:10: `proxy.databases.app` must be a mapping of keys to values, not `7`',
      ],
      [
        'proxy:\n  users: {a.b: {query_timeout: 5}}',
        '/etc/p.yaml:2:32: `proxy.users.a.b.query_timeout` must be a duration from 0 to 24d, such as `30s`, not `5`',
      ],
      [
        'proxy:\n  users: [a]',
        '/etc/p.yaml:2:10: `proxy.users` must be a mapping of up to 10000 users, not a list',
      ],
    ] as const
    for (const [text, message] of wrong) assert.deepEqual(problems(text), [message])
  })

  test('there is a limit to their number', () => {
    const many = Array.from({ length: 10_001 }, (_, index) => `    d${index}: {}`).join('\n')
    assert.match(problems(`proxy:\n  databases:\n${many}`).join(), /up to 10000 databases/)
  })
})

describe('TLS', () => {
  const pair = 'cert_file: c.pem, key_file: k.pem'

  test('of the clients is allowed as soon as there is a certificate', () => {
    assert.equal(loaded('').config.proxy.tls.mode, 'disable')
    assert.equal(loaded(`proxy: {tls: {${pair}}}`).config.proxy.tls.mode, 'allow')
    assert.equal(loaded(`proxy: {tls: {${pair}, mode: disable}}`).config.proxy.tls.mode, 'disable')
  })

  test('files are meant from the folder of the configuration, those for a name too', () => {
    const more = '{server_name: db.example, cert_file: ../c2.pem, key_file: /k2.pem}'
    const { tls } = loaded(`proxy: {tls: {${pair}, certificates: [${more}]}}`).config.proxy
    assert.deepEqual([tls.cert_file, tls.key_file], ['/etc/c.pem', '/etc/k.pem'])
    assert.deepEqual(tls.certificates, [
      { server_name: 'db.example', cert_file: '/c2.pem', key_file: '/k2.pem' },
    ])
  })

  test('a key that everyone can read is told, one that is missing refused', () => {
    const sni = (key: string) =>
      `proxy: {tls: {${pair}, certificates: [{server_name: a, cert_file: c, key_file: ${key}}]}}`
    const { warnings } = loaded(sni('open.pem'))
    assert.match(
      warnings.map(formatProblem).join(),
      /certificates\[0\]\.key_file` names `\/etc\/open\.pem`, which/,
    )
    assert.match(problems(sni('missing.pem')).join(), /`\/etc\/missing\.pem`, which does not exist/)
  })

  test('what cannot be is refused', () => {
    const name = '{server_name: a, cert_file: c, key_file: k}'
    const wrong: [string, RegExp][] = [
      ['tls: {cert_file: c}', /`proxy\.tls\.cert_file` needs `proxy\.tls\.key_file` beside it/],
      ['tls: {mode: require}', /`proxy\.tls\.mode` needs `proxy\.tls\.cert_file` and/],
      ['tls: {client_ca_file: a}', /`proxy\.tls\.client_ca_file` needs/],
      [`tls: {certificates: [${name}]}`, /`proxy\.tls\.certificates` needs .* that ask for no name/],
      [
        `tls: {${pair}, certificates: [${name}, ${name.replace(': a', ': A')}]}`,
        /\[1\]\.server_name` is `a`, which `proxy\.tls\.certificates\[0\]` is for/,
      ],
      ['server_tls: {key_file: k}', /`proxy\.server_tls\.key_file` needs `proxy\.server_tls\.cert_file`/],
      ['server_tls: {ca_file: a}', /`proxy\.server_tls\.ca_file` is not used with `mode: prefer`/],
    ]
    for (const [text, message] of wrong) assert.match(problems(`proxy: {${text}}`).join(), message, text)
    assert.deepEqual(problems('proxy: {server_tls: {ca_file: a, mode: verify-ca}}'), [])
  })
})

describe('logins', () => {
  const rules = 'rules: [{type: host, database: [a, b], user: all, address: 10.0.0.0/8, method: md5}]'

  test('what cannot be is refused', () => {
    const wrong: [string, RegExp][] = [
      ['method: proxy', /`proxy\.auth\.method` is `proxy`, which needs `proxy\.auth\.rules` or/],
      [`method: proxy, hba_file: h, ${rules}`, /`proxy\.auth\.rules` are set as well as `hba_file`/],
      [rules, /`proxy\.auth\.rules` has no effect with `method: passthrough`/],
      ['users_file: u', /`proxy\.auth\.users_file` has no effect/],
      [`method: proxy, ${rules}, query_password: x`, /`proxy\.auth\.query_user` must be set/],
      [
        `method: proxy, ${rules}, query_user: u, query_password: x, query_password_file: y`,
        /query_password_file` is set as well/,
      ],
    ]
    for (const [text, message] of wrong) {
      assert.match(problems(`proxy: {auth: {${text}}}`).join(), message, text)
    }
  })

  test('the password of the one who asks is never shown, wherever it comes from', () => {
    const text = `proxy: {auth: {method: proxy, ${rules}, query_user: u, %}}`
    for (const { config, origins } of [
      loaded(text.replace('%', 'query_password: pw-canary')),
      loaded(text.replace('%', 'query_password_file: pw')),
      loaded(text.replace(', %', ''), { PGHERD_PROXY_AUTH_QUERY_PASSWORD: 'pw-canary' }),
    ]) {
      assert.equal(config.proxy.auth.query_password, 'pw-canary')
      assert.doesNotMatch(effectiveYaml(effectiveConfig(config, origins)), /canary/)
    }
  })
})

test('address ranges have a prefix of their kind', () => {
  const load = (range: string) => problems(`proxy: {proxy_protocol_from: ["${range}"]}`)
  for (const range of ['10.0.0.0/8', '0.0.0.0/0', '::1/128', '2001:db8::/32'])
    assert.deepEqual(load(range), [])
  for (const range of ['10.0.0.1', '10.0.0.0/33', '::/129', 'host/8', '10.0.0/8', '10.0.0.0/', '']) {
    assert.match(load(range).join(), /proxy_protocol_from\[0\]` must be an address range/, range)
  }
})
