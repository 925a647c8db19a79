import { isAbsolute } from 'node:path'
import { resolveBeside } from '../config/files.ts'
import type { IniEntry } from './pgbouncer-ini.ts'
import type { Draft, Reason } from './pgbouncer-ini-draft.ts'

/** The settings of `[pgbouncer]` that belong together: logins, and TLS of both sides. The last entry of a key counts. */
export type Settings = ReadonlyMap<string, IniEntry>

/** `auth_type` to the method of a rule for everybody. */
const methods: ReadonlyMap<string, string> = new Map([
  ['md5', 'md5'],
  ['scram-sha-256', 'scram-sha-256'],
  ['plain', 'password'],
  ['trust', 'trust'],
  ['any', 'trust'],
  ['cert', 'cert'],
])

const changedMethods: ReadonlyMap<string, Reason> = new Map([
  [
    'trust',
    {
      why: 'PgBouncer lets in only users whom `auth_file` names; the rule lets in everybody.',
      todo: 'Name the users in `proxy.auth.rules`.',
    },
  ],
  [
    'any',
    {
      why: 'PgBouncer ignores the name that the client gives; to pgherd it is the user on the servers.',
      todo: 'Let clients give the user that the servers know, and name it in `proxy.auth.rules`.',
    },
  ],
])

/**
 * Logins. `databases` are those that clients may ask for, undefined for any; `serverNames` says what one is called
 * on the servers. Returns whether the rules keep clients out of all other databases.
 */
export function carryAuth(
  settings: Settings,
  draft: Draft,
  databases: readonly string[] | undefined,
  serverNames: (database: string) => string,
): boolean {
  const type = settings.get('auth_type')
  const value = type?.value ?? 'md5'
  if (value === 'hba') {
    carryHba(settings, draft, serverNames)
    return false
  }
  const method = methods.get(value)
  if (method === undefined) {
    draft.note(
      'dropped',
      { entry: type!, value },
      {
        why: 'pgherd does not know this way to log in: it passes the servers’ own challenge on to the client.',
        todo: 'Set it up in pg_hba.conf of the servers, or choose a method for `proxy.auth.rules`.',
      },
    )
    dropAll(settings, draft, loginKeys, { why: 'The servers check logins.' })
    return false
  }
  const database = databases && ruleDatabases(databases)
  draft.set(['proxy', 'auth', 'method'], 'proxy')
  draft.set(
    ['proxy', 'auth', 'rules'],
    [
      {
        type: method === 'cert' ? 'hostssl' : 'host',
        database: database ?? 'all',
        user: 'all',
        address: 'all',
        method,
      },
    ],
  )
  const reason = changedMethods.get(value)
  if (type && reason) draft.note('changed', { entry: type, value }, reason)
  else draft.carried++
  dropAll(settings, draft, ['auth_hba_file'], { why: 'It is used with `auth_type = hba` only.' })
  carryUsers(settings, draft, serverNames)
  return database !== undefined
}

/** Words that mean something else than a database in a rule. */
const ruleWords = new Set(['all', 'sameuser', 'samerole', 'samegroup', 'replication'])
/** What the configuration allows in one rule. */
const ruleDatabasesMax = 1000

/** The databases, and the console's two, as a rule names them; undefined where it cannot. */
function ruleDatabases(databases: readonly string[]): string[] | undefined {
  // A name behind a slash is a pattern.
  if (databases.length === 0 || databases.some(name => name.startsWith('/'))) return undefined
  const names = [...databases, 'pgherd', 'pgbouncer']
  if (names.length > ruleDatabasesMax) return undefined
  // In quotes a word is a name, as in pg_hba.conf.
  return names.map(name => (ruleWords.has(name) || !/^[\w.-]+$/.test(name) ? `"${name}"` : name))
}

function carryHba(settings: Settings, draft: Draft, serverNames: (database: string) => string): void {
  const file = settings.get('auth_hba_file')
  draft.set(['proxy', 'auth', 'method'], 'proxy')
  if (file) carryFile(['proxy', 'auth', 'hba_file'], file, draft)
  else {
    draft.note(
      'dropped',
      { entry: settings.get('auth_type')!, value: 'hba' },
      {
        why: 'There is no `auth_hba_file`, so that nobody could log in.',
        todo: 'Set `proxy.auth.rules` or `proxy.auth.hba_file`.',
      },
    )
  }
  carryUsers(settings, draft, serverNames)
}

const loginKeys = ['auth_file', 'auth_user', 'auth_query', 'auth_dbname', 'auth_hba_file', 'auth_ident_file']

function carryUsers(settings: Settings, draft: Draft, serverNames: (database: string) => string): void {
  const file = settings.get('auth_file')
  if (file?.value) carryFile(['proxy', 'auth', 'users_file'], file, draft)
  const user = settings.get('auth_user')
  if (user?.value) {
    draft.carry(['proxy', 'auth', 'query_user'], user.value)
    const query = settings.get('auth_query')
    if (query?.value) draft.carry(['proxy', 'auth', 'query'], query.value)
    const database = settings.get('auth_dbname')
    if (database?.value) draft.carry(['proxy', 'auth', 'query_database'], serverNames(database.value))
  } else {
    dropAll(settings, draft, ['auth_query', 'auth_dbname'], { why: 'It is used with `auth_user` only.' })
  }
  dropAll(settings, draft, ['auth_ident_file'], {
    why: 'pgherd has no maps of names.',
    todo: 'Let the name in a certificate be that of the user.',
  })
  dropAll(settings, draft, ['auth_ldap_options'], { why: 'pgherd does not ask an LDAP server.' })
}

function dropAll(settings: Settings, draft: Draft, keys: readonly string[], reason: Reason): void {
  for (const key of keys) {
    const entry = settings.get(key)
    if (!entry?.value) continue
    // It may hold the password of the one who asks the LDAP server.
    const value = key === 'auth_ldap_options' ? '[redacted]' : entry.value
    draft.note('dropped', { entry, value }, reason)
  }
}

/** A path; one that is relative to the folder that PgBouncer was started in is meant from that of its file. */
function carryFile(path: readonly string[], entry: IniEntry, draft: Draft): void {
  const file = resolveBeside(entry.file, entry.value)
  if (isAbsolute(entry.value)) return draft.carry(path, file)
  draft.set(path, file)
  draft.note(
    'changed',
    { entry, value: entry.value },
    {
      why: `PgBouncer looks for it in the folder that it is started in; it is ${file} now.`,
    },
  )
}

/** TLS of the clients. */
export function carryClientTls(settings: Settings, draft: Draft): void {
  const mode = settings.get('client_tls_sslmode')
  const value = mode?.value ?? 'disable'
  const keys = ['client_tls_cert_file', 'client_tls_key_file', 'client_tls_ca_file', 'client_tls_protocols']
  if (value === 'disable') {
    if (mode) draft.carried++
    return dropAll(settings, draft, keys, { why: 'It is not used with `client_tls_sslmode = disable`.' })
  }
  const verifies = value.startsWith('verify-')
  const translated = verifies ? 'require' : value === 'prefer' ? 'allow' : value
  if (verifies) {
    draft.set(['proxy', 'tls', 'mode'], translated)
    draft.note(
      'changed',
      { entry: mode!, value },
      {
        why: 'PgBouncer lets no client in without a certificate; pgherd asks for one, and demands it where a rule says `cert`.',
        todo: 'Give those who must show one a rule of type `hostssl` with the method `cert` in `proxy.auth.rules`.',
      },
    )
  } else if (translated === 'allow' || translated === 'require') {
    draft.carry(['proxy', 'tls', 'mode'], translated)
  } else return draft.note('dropped', { entry: mode!, value }, unknownMode)
  carryGiven(settings, draft, 'client_tls_cert_file', ['proxy', 'tls', 'cert_file'])
  carryGiven(settings, draft, 'client_tls_key_file', ['proxy', 'tls', 'key_file'])
  if (verifies) carryGiven(settings, draft, 'client_tls_ca_file', ['proxy', 'tls', 'client_ca_file'])
  else {
    const why = 'PgBouncer looks at no certificate of a client in this mode, so that it has no use.'
    dropAll(settings, draft, ['client_tls_ca_file'], { why })
  }
  carryVersions(settings, draft, 'client_tls_protocols', ['proxy', 'tls', 'min_version'])
}

/** TLS to the servers. */
export function carryServerTls(settings: Settings, draft: Draft): void {
  const mode = settings.get('server_tls_sslmode')
  const value = mode?.value ?? 'prefer'
  const verifies = value.startsWith('verify-')
  // What PgBouncer does with `allow` is what it does with `prefer`.
  const translated = value === 'allow' ? 'prefer' : value
  if (!['disable', 'prefer', 'require', 'verify-ca', 'verify-full'].includes(translated)) {
    draft.note('dropped', { entry: mode!, value }, unknownMode)
  } else if (mode) draft.carry(['proxy', 'server_tls', 'mode'], translated)
  if (verifies) carryGiven(settings, draft, 'server_tls_ca_file', ['proxy', 'server_tls', 'ca_file'])
  else {
    dropAll(settings, draft, ['server_tls_ca_file'], {
      why: 'It is used with `verify-ca` and `verify-full` only.',
      todo: 'Set `proxy.server_tls.mode: verify-full` and `ca_file` for connections that nobody can listen to.',
    })
  }
  carryGiven(settings, draft, 'server_tls_cert_file', ['proxy', 'server_tls', 'cert_file'])
  carryGiven(settings, draft, 'server_tls_key_file', ['proxy', 'server_tls', 'key_file'])
  carryVersions(settings, draft, 'server_tls_protocols', ['proxy', 'server_tls', 'min_version'])
}

const unknownMode: Reason = { why: 'PgBouncer knows no such mode.' }

function carryGiven(settings: Settings, draft: Draft, key: string, path: readonly string[]): void {
  const entry = settings.get(key)
  if (entry?.value) carryFile(path, entry, draft)
}

function carryVersions(settings: Settings, draft: Draft, key: string, path: readonly string[]): void {
  const entry = settings.get(key)
  if (!entry?.value) return
  const protocols = entry.value
    .toLowerCase()
    .split(/[\s,:]+/)
    .filter(each => each !== '')
  const old = protocols.some(each => ['all', 'legacy', 'tlsv1.0', 'tlsv1.1', 'tlsv1'].includes(each))
  const newest = protocols.every(each => each === 'tlsv1.3')
  if (newest) return draft.carry(path, 'TLSv1.3')
  if (!old) return void draft.carried++
  draft.note(
    'changed',
    { entry, value: entry.value },
    {
      why: 'pgherd speaks TLS from version 1.2 on.',
      todo: 'Renew clients or servers that cannot.',
    },
  )
}
