import type { z } from 'zod'
import { isLoopback, nodeNameOf } from './names.ts'

/**
 * Rules between the keys of one section. Each takes the section's checked value and reports at the key that a
 * person would change. They belong to sections, so that a mistake in one does not hide another's.
 */
type Report = Pick<z.RefinementCtx, 'addIssue'>

interface WithPassword {
  password?: string | undefined
  password_file?: string | undefined
}

export function onePassword(value: WithPassword, report: Report): void {
  if (value.password === undefined || value.password_file === undefined) return
  complain(report, ['password_file'], 'is set as well as `password`: keep one of the two')
}

export interface StoreRuleInput extends WithPassword {
  kind: 'embedded' | 'etcd'
  endpoints: string[]
  user?: string | undefined
  tls?: { cert_file?: string | undefined; key_file?: string | undefined } | undefined
  lease_ttl: number
  request_timeout: number
}

export function storeRule(value: StoreRuleInput, report: Report): void {
  onePassword(value, report)
  if (value.kind === 'etcd') etcdRule(value, report)
  else embeddedRule(value, report)
  // A renewal is tried at a third of the lease; one that may take longer could lose it while all is well.
  if (value.request_timeout >= value.lease_ttl) {
    complain(
      report,
      ['request_timeout'],
      'must be shorter than `store.lease_ttl`, or no renewal can be in time',
    )
  }
}

function etcdRule(value: StoreRuleInput, report: Report): void {
  const hasPassword = value.password !== undefined || value.password_file !== undefined
  if (value.endpoints.length === 0) {
    complain(report, ['endpoints'], 'must name at least one endpoint when `store.kind` is `etcd`')
  }
  if (hasPassword && value.user === undefined) {
    complain(report, ['user'], 'must be set when a password is: etcd knows no password without a user')
  }
  if (value.user !== undefined && !hasPassword) {
    complain(report, ['user'], 'needs `store.password` or `store.password_file`')
  }
  value.endpoints.forEach((endpoint, index) => {
    if (value.tls !== undefined && endpoint.startsWith('http://')) {
      complain(
        report,
        ['endpoints', index],
        'begins with `http://` although `store.tls` is set: use `https://`',
      )
    }
  })
  if (value.tls) keyPairRule(value.tls, report, 'store.tls', ['tls'])
}

interface KeyPair {
  cert_file?: string | undefined
  key_file?: string | undefined
}

/** A certificate and its key come together. `section` is where they stand, `path` is the way there. */
function keyPairRule(value: KeyPair, report: Report, section: string, path: string[] = []): void {
  if ((value.cert_file === undefined) === (value.key_file === undefined)) return
  const [present, missing] =
    value.cert_file === undefined
      ? (['key_file', 'cert_file'] as const)
      : (['cert_file', 'key_file'] as const)
  complain(report, [...path, present], `needs \`${section}.${missing}\` beside it`)
}

export interface ClientTlsRuleInput extends KeyPair {
  mode?: string | undefined
  client_ca_file?: string | undefined
  certificates: { server_name: string }[]
}

export function clientTlsRule(value: ClientTlsRuleInput, report: Report): void {
  keyPairRule(value, report, 'proxy.tls')
  const names = value.certificates.map(({ server_name }) => server_name.toLowerCase())
  names.forEach((name, index) => {
    const first = names.indexOf(name)
    if (first === index) return
    const message = `is \`${name}\`, which \`proxy.tls.certificates[${first}]\` is for already`
    complain(report, ['certificates', index, 'server_name'], message)
  })
  if (value.cert_file !== undefined || value.key_file !== undefined) return
  const needsCertificate = 'needs `proxy.tls.cert_file` and `proxy.tls.key_file`'
  if (value.mode !== undefined && value.mode !== 'disable') complain(report, ['mode'], needsCertificate)
  if (value.client_ca_file !== undefined) complain(report, ['client_ca_file'], needsCertificate)
  if (names.length > 0) {
    complain(report, ['certificates'], `${needsCertificate} for clients that ask for no name`)
  }
}

export interface ServerTlsRuleInput extends KeyPair {
  mode: string
  ca_file?: string | undefined
}

export function serverTlsRule(value: ServerTlsRuleInput, report: Report): void {
  keyPairRule(value, report, 'proxy.server_tls')
  // Who names an authority means to check by it.
  if (value.ca_file === undefined || value.mode.startsWith('verify-')) return
  const message = `is not used with \`mode: ${value.mode}\`: set \`verify-full\` or \`verify-ca\``
  complain(report, ['ca_file'], message)
}

export interface AuthRuleInput {
  method: 'passthrough' | 'proxy'
  hba_file?: string | undefined
  rules: unknown[]
  maps: unknown[]
  users_file?: string | undefined
  query_user?: string | undefined
  query_password?: string | undefined
  query_password_file?: string | undefined
}

export function authRule(value: AuthRuleInput, report: Report): void {
  const hasPassword = value.query_password !== undefined || value.query_password_file !== undefined
  if (value.query_password !== undefined && value.query_password_file !== undefined) {
    complain(report, ['query_password_file'], 'is set as well as `query_password`: keep one of the two')
  }
  if (hasPassword && value.query_user === undefined) {
    complain(report, ['query_user'], 'must be set when `query_password` is: a password belongs to a user')
  }
  const hasRules = value.rules.length > 0
  if (hasRules && value.hba_file !== undefined) {
    complain(report, ['rules'], 'are set as well as `hba_file`: keep one of the two')
  }
  if (value.method === 'proxy') {
    if (hasRules || value.hba_file !== undefined) return
    complain(report, ['method'], 'is `proxy`, which needs `proxy.auth.rules` or `proxy.auth.hba_file`')
    return
  }
  for (const key of ['hba_file', 'rules', 'maps', 'users_file', 'query_user'] as const) {
    const set = value[key]
    const isSet = Array.isArray(set) ? set.length > 0 : set !== undefined
    if (isSet) complain(report, [key], 'has no effect with `method: passthrough`: set `method: proxy`')
  }
}

function embeddedRule(value: StoreRuleInput, report: Report): void {
  if (value.endpoints.length > 0) {
    complain(report, ['endpoints'], 'is for etcd, but `store.kind` is `embedded`: set `kind: etcd`')
  }
  if (value.tls !== undefined) {
    complain(report, ['tls'], 'is for etcd, but `store.kind` is `embedded`: set `kind: etcd`')
  }
}

export function proxyRule(value: { port: number; read_port: number }, report: Report): void {
  if (value.port !== value.read_port) return
  complain(report, ['read_port'], `must differ from \`proxy.port\`, both are ${value.port}; 0 turns it off`)
}

export function agentRule(value: { http_port: number; check_port: number }, report: Report): void {
  if (value.http_port !== value.check_port || value.http_port === 0) return
  complain(
    report,
    ['check_port'],
    `must differ from \`agent.http_port\`, both are ${value.http_port}; 0 turns it off`,
  )
}

export interface AdminRuleInput {
  listen: string
  port: number
  token?: string | undefined
  token_file?: string | undefined
}

export function adminRule(value: AdminRuleInput, report: Report): void {
  if (value.token !== undefined && value.token_file !== undefined) {
    complain(report, ['token_file'], 'is set as well as `token`: keep one of the two')
  }
  const open = value.token === undefined && value.token_file === undefined
  if (value.port !== 0 && open && !isLoopback(value.listen)) {
    complain(
      report,
      ['listen'],
      `is \`${value.listen}\`, which other machines can reach: set \`admin.token\` or \`admin.token_file\`, ` +
        'or listen on 127.0.0.1',
    )
  }
}

export interface NodeRuleInput {
  name?: string | undefined
  host: string
  port: number
}

/** Two nodes of one name or one address would be one server counted twice. */
export function nodesRule(nodes: readonly NodeRuleInput[], report: Report): void {
  const names = new Map<string, number>()
  const addresses = new Map<string, number>()
  nodes.forEach((node, index) => {
    const address = `${node.host}:${node.port}`
    const name = node.name ?? nodeNameOf(node)
    const sameAddress = addresses.get(address)
    const sameName = names.get(name)
    if (sameAddress !== undefined) {
      complain(report, [index, 'host'], `is \`${address}\`, the address of \`nodes[${sameAddress}]\` already`)
    } else if (sameName !== undefined) {
      const key = node.name === undefined ? 'host' : 'name'
      complain(report, [index, key], `makes the name \`${name}\`, which \`nodes[${sameName}]\` has already`)
    }
    if (sameAddress === undefined) addresses.set(address, index)
    if (sameName === undefined) names.set(name, index)
  })
}

function complain(report: Report, path: (string | number)[], message: string): void {
  report.addIssue({ code: 'custom', path, message, params: { rule: true } })
}
