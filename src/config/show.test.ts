import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse } from 'yaml'
import { loadConfig } from './load.ts'
import { effectiveConfig, effectiveObject, effectiveYaml } from './show.ts'

function load(text: string, env = {}) {
  const readFile = () => ({ text: 'from-file-canary\n', mode: 0o600 })
  const result = loadConfig({ text, file: '/etc/p.yaml', env, hostName: 'box', readFile })
  assert.ok(result.ok, JSON.stringify(result))
  return result
}

const text = `cluster: "yes: no"
nodes:
  - host: a
    zone: z
store:
  kind: etcd
  endpoints: [a:1, b:2]
  tls: {}
routing: {drain_timeout: 90s, replica_lag_max: 0}
agent: {tags: {rack: "7", "a b": "#"}}
`.replace('"yes: no"', 'prod')

test('what is shown can be loaded again and means the same', () => {
  const { config, origins } = load(text)
  const yaml = effectiveYaml(effectiveConfig(config, origins))
  assert.deepEqual(load(yaml).config, config)
  assert.deepEqual(parse(yaml), effectiveObject(effectiveConfig(config, origins)))
})

test('each value says where it comes from', () => {
  const { config, origins } = load(text, { PGHERD_PROXY_PORT: '7000' })
  const yaml = effectiveYaml(effectiveConfig(config, origins))
  assert.match(yaml, /^cluster: prod +# \/etc\/p\.yaml:1$/m)
  assert.match(yaml, /^nodes: +# \/etc\/p\.yaml:2$/m)
  assert.match(yaml, /^ {2}tls: \{\} +# \/etc\/p\.yaml:8$/m)
  assert.match(yaml, /^ {2}port: 7000 +# PGHERD_PROXY_PORT$/m)
  assert.match(yaml, /^ {2}drain_timeout: 90s +# \/etc\/p\.yaml:9$/m)
  assert.match(yaml, /^ {2}level: info +# default$/m)
})

test('secrets are redacted, and those from a file are shown by its name', () => {
  const { config, origins } = load('probe: {password: pw-canary}\nadmin: {token_file: t}\n')
  const effective = effectiveConfig(config, origins)
  const shown = effectiveYaml(effective) + JSON.stringify(effectiveObject(effective))
  assert.doesNotMatch(shown, /canary/)
  assert.match(shown, /^ {2}password: "\[redacted\]" +# \/etc\/p\.yaml:1$/m)
  assert.match(shown, /^ {2}token_file: \/etc\/t +# \/etc\/p\.yaml:2$/m)
  assert.doesNotMatch(shown, /token: /)
})
