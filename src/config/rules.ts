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
  const { cert_file: certificate, key_file: key } = value.tls ?? {}
  if ((certificate === undefined) !== (key === undefined)) {
    const present = certificate === undefined ? 'key_file' : 'cert_file'
    const missing = certificate === undefined ? 'cert_file' : 'key_file'
    complain(report, ['tls', present], `needs \`store.tls.${missing}\` beside it`)
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
