import { readFileSync } from 'node:fs'
import { type AddressRange, inRange, parseAddress, parseRange } from '../../auth/addresses.ts'
import { type CertificateMap, certificateMaps } from '../../auth/certificates.ts'
import type { HbaRule } from '../../auth/hba.ts'
import { missingMapProblems, parseHba, parseHbaObjects } from '../../auth/hba-parse.ts'
import { type Secret, serverCredentials } from '../../auth/secrets.ts'
import { emptyThrottle } from '../../auth/throttle.ts'
import { parseUsersFile } from '../../auth/users-file.ts'
import type { Problem } from '../../config/problem.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Random } from '../../runtime/random.ts'
import type { Timers } from '../../runtime/timers.ts'
import type { AuthQuerySettings, AuthSettings, WorkerSettings } from '../control/ipc.ts'
import { serverDatabase } from '../pool/limits.ts'
import type { Target } from '../server.ts'
import type { LoginRules } from './client-login.ts'
import type { ServerTls } from './dial.ts'
import { SecretsLookup } from './secrets-lookup.ts'
import { ServerAccount, ServerAccounts } from './server-account.ts'
import { type ClientTls, loadClientTls, loadServerTls } from './tls-contexts.ts'
import { UserSecrets } from './user-secrets.ts'

export type SecurityErrorCode =
  /** A file of rules or users cannot be read. */
  | 'unreadable'
  /** A rule cannot be understood: with the others alone, somebody could get in who should not. */
  | 'broken_rules'

export class SecurityError extends Error {
  readonly code: SecurityErrorCode

  constructor(code: SecurityErrorCode, message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'SecurityError'
    this.code = code
  }
}

export interface SecurityOptions {
  /** Changed in place at a reload; `reload` is called after that. */
  settings: WorkerSettings
  /** Makes up what an unknown user would have; the same in every worker. */
  mockSecret: Buffer
  /** Servers to ask for secrets, the best first. */
  targets: () => readonly Target[]
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
}

/** Limit for each answer to an auth query. */
const queryTimeoutMs = 5000

/**
 * What this worker encrypts and checks logins with: certificates, access rules, secrets of users. Read from files at
 * the start and at every reload.
 */
export class Security {
  /** Undefined: clients are not encrypted. */
  clientTls: ClientTls | undefined
  /** Undefined: servers are not encrypted. */
  serverTls: ServerTls | undefined
  /** Undefined: the servers ask the clients themselves. */
  rules: LoginRules | undefined
  readonly #options: SecurityOptions
  readonly #throttle = emptyThrottle()
  readonly accounts: ServerAccounts
  #balancers: readonly AddressRange[] = []
  #lookup: SecretsLookup | undefined

  /** @throws TlsError, SecurityError */
  constructor(options: SecurityOptions) {
    this.#options = options
    const { auth, serverTls, tls } = options.settings
    this.accounts = new ServerAccounts(options.random, (user, node, reason) => {
      this.rules?.secrets.forget(user)
      const event = 'server.login_refused'
      options.log.warn({ event, user, node }, `${node} refused the login of "${user}": ${reason}`)
    })
    this.clientTls = loadClientTls(tls)
    this.serverTls = loadServerTls(serverTls)
    this.#takeAuth(auth)
    this.takeBalancers()
  }

  /** Reads everything anew. What cannot be used any more is logged, and stays as it was. */
  reload(): void {
    const { settings } = this.#options
    this.#try('TLS of the clients', () => {
      this.clientTls = loadClientTls(settings.tls)
    })
    this.#try('TLS to the servers', () => {
      this.serverTls = loadServerTls(settings.serverTls)
    })
    this.#try('the rules of logins', () => this.#takeAuth(settings.auth))
    this.takeBalancers()
  }

  /** Whether connections from this address begin with a PROXY header. */
  isBalancer(address: string | undefined): boolean {
    if (this.#balancers.length === 0) return false
    const parsed = address === undefined ? undefined : parseAddress(address)
    return parsed !== undefined && this.#balancers.some(range => inRange(range, parsed))
  }

  close(): void {
    this.#lookup?.retire()
  }

  #try(what: string, take: () => void): void {
    try {
      take()
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause)
      this.#options.log.error({ event: 'security.kept' }, `${what} stay as they were: ${why}`)
    }
  }

  /** Takes over from the settings whose connections begin with a PROXY header. */
  takeBalancers(): void {
    const { proxyProtocolFrom } = this.#options.settings
    this.#balancers = proxyProtocolFrom.map(text => parseRange(text)).filter(range => range !== undefined)
  }

  #takeAuth(auth: AuthSettings): void {
    const { maps, problems } = certificateMaps(auth.maps, 'configuration', 'proxy.auth.maps')
    const rules = auth.method === 'proxy' ? readRules(auth, new Set(maps.keys()), problems) : undefined
    const known = rules ? this.#readUsers(auth.usersFile) : new Map<string, Secret | undefined>()
    this.#lookup?.retire()
    this.#lookup = rules && auth.query && this.#makeLookup(auth.query, known)
    this.rules = rules && this.#rulesOf(rules, maps, known, this.#lookup)
  }

  #rulesOf(
    rules: readonly HbaRule[],
    maps: ReadonlyMap<string, CertificateMap>,
    known: ReadonlyMap<string, Secret | undefined>,
    lookup: SecretsLookup | undefined,
  ): LoginRules {
    const { clock, mockSecret } = this.#options
    const ask = lookup && ((user: string, database: string) => lookup.find(user, database))
    const secrets = new UserSecrets({ known, ask, mockSecret, clock })
    return { rules, maps, secrets, accounts: this.accounts, throttle: this.#throttle, mockSecret }
  }

  #makeLookup(query: AuthQuerySettings, known: ReadonlyMap<string, Secret | undefined>): SecretsLookup {
    const { log, random, settings, targets, timers } = this.#options
    const { password, user } = query
    const account = new ServerAccount({ user, random, onRefused: () => undefined })
    account.renew(password === undefined ? serverCredentials(known.get(user)) : { password })
    return new SecretsLookup({
      query,
      account,
      targets,
      serverDatabase: database => serverDatabase(settings, database),
      timeoutMs: queryTimeoutMs,
      timers,
      log,
    })
  }

  /** Broken lines are left out and told: whoever stands there cannot log in. */
  #readUsers(file: string | undefined): ReadonlyMap<string, Secret | undefined> {
    if (file === undefined) return new Map()
    const { problems, users } = parseUsersFile(readText(file), file)
    for (const { line, message } of problems) {
      this.#options.log.warn({ event: 'users_file.line' }, `${file}, line ${line}: ${message}`)
    }
    return users
  }
}

function readRules(
  { hbaFile, rules }: AuthSettings,
  maps: ReadonlySet<string>,
  ofMaps: readonly Problem[],
): readonly HbaRule[] {
  const [file, path] = hbaFile === undefined ? ['configuration', 'proxy.auth.rules'] : [hbaFile, undefined]
  const table = path === undefined ? parseHba(readText(file), file) : parseHbaObjects(rules, file, path)
  const [problem] = [...ofMaps, ...table.problems, ...missingMapProblems(table.rules, maps, file, path)]
  if (problem) throw new SecurityError('broken_rules', `${placeOf(problem)}: ${problem.message}`)
  return table.rules
}

function placeOf({ file, line, path }: Problem): string {
  return path === '' ? `${file}, line ${line}` : `${file}, ${path}`
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'error'
    const message = `${file} cannot be read (${why}): check that it is there and that pgherd may read it`
    throw new SecurityError('unreadable', message, cause)
  }
}
