import type { Problem } from '../config/problem.ts'
import { compilePattern, isPattern } from './patterns.ts'

/**
 * The method `cert`: the user is who the client's certificate says. Only the common name counts, as in PostgreSQL;
 * alternative names name hosts. That the certificate is valid and of a trusted authority is TLS's to verify first.
 */

/** An entry of a map, as a line of PostgreSQL's pg_ident.conf: this certificate may be this user. */
export interface CertificateMapEntry {
  /** The common name; behind a slash a regular expression. */
  certificate: string
  /** The user; `\1` stands for what the first group of the expression matched; `all` for any user. */
  user: string
}

export type CertificateMap = readonly { certificate: string | RegExp; user: string }[]

/** Compiles a map's entries. `file` and `path` are how the problems name them; with any the map must not be used. */
export function certificateMap(
  entries: readonly CertificateMapEntry[],
  file: string,
  path: string,
): { map: CertificateMap; problems: Problem[] } {
  const map: { certificate: string | RegExp; user: string }[] = []
  const problems: Problem[] = []
  for (const [index, { certificate, user }] of entries.entries()) {
    const pattern = isPattern(certificate) ? compilePattern(certificate) : undefined
    if (typeof pattern === 'string') {
      problems.push({ file, line: 0, column: 0, path: `${path}[${index}]`, message: pattern })
    } else map.push({ certificate: pattern ?? certificate, user })
  }
  return { map, problems }
}

/** A line of a list that holds several maps. */
export interface CertificateMapLine extends CertificateMapEntry {
  /** The map that it belongs to. */
  map: string
}

/** Compiles a list of lines to maps by name; the places in problems are those of the list. */
export function certificateMaps(
  lines: readonly CertificateMapLine[],
  file: string,
  path: string,
): { maps: ReadonlyMap<string, CertificateMap>; problems: Problem[] } {
  const maps = new Map<string, CertificateMap>()
  const problems: Problem[] = []
  for (const [index, line] of lines.entries()) {
    const compiled = certificateMap([line], file, path)
    problems.push(...compiled.problems.map(problem => ({ ...problem, path: `${path}[${index}]` })))
    maps.set(line.map, [...(maps.get(line.map) ?? []), ...compiled.map])
  }
  return { maps, problems }
}

/**
 * The one common name of a certificate's subject as node:tls gives it; undefined when there is none, when there are
 * several (which of them would be the user?), or when a zero byte in it could hide the rest of it.
 */
export function commonName(subject: { CN?: string | string[] | undefined } | undefined): string | undefined {
  const name = subject?.CN
  return typeof name === 'string' && name !== '' && !name.includes('\0') ? name : undefined
}

/** Whether the holder of a certificate of this name may log in as `user`: by the map, or without one as that name. */
export function certificateFits(name: string, user: string, map: CertificateMap | undefined): boolean {
  if (!map) return name === user
  return map.some(entry => userOf(entry, name, user) === user)
}

/** Whom an entry makes of a certificate's name; undefined when it is not for it. */
function userOf(entry: CertificateMap[number], name: string, asked: string): string | undefined {
  if (typeof entry.certificate === 'string') {
    if (entry.certificate !== name) return undefined
    return entry.user === 'all' ? asked : entry.user
  }
  const match = entry.certificate.exec(name)
  if (!match) return undefined
  if (entry.user === 'all') return asked
  return entry.user.replace('\\1', () => match[1] ?? '')
}
