import { certificateMaps } from '../auth/certificates.ts'
import { missingMapProblems, parseHba, parseHbaObjects } from '../auth/hba-parse.ts'
import { parseUsersFile } from '../auth/users-file.ts'
import { readDocument } from '../config/document.ts'
import { type ReadFile, readFailure, readFileFromDisk } from '../config/files.ts'
import { type LoadOptions, type LoadResult, loadConfigFile } from '../config/load.ts'
import type { Problem } from '../config/problem.ts'
import type { ProxyConfig } from '../config/schema.ts'

/**
 * Loads a configuration, and looks into what it names for logins: with a rule that is not understood nothing is
 * loaded, while of a users file only the broken lines are left out, with a warning.
 */
export function loadChecked(file: string | undefined, options: LoadOptions): LoadResult {
  const loaded = loadConfigFile(file, options)
  const { sections, readFile = readFileFromDisk } = options
  if (!loaded.ok || (sections && !sections.includes('proxy'))) return loaded
  const { auth } = loaded.config.proxy
  if (auth.method !== 'proxy') return loaded
  const warnings = [...loaded.warnings, ...usersFileProblems(auth, readFile)]
  const problems = ruleProblems(auth, file, readFile)
  return problems.length === 0 ? { ...loaded, warnings } : { ok: false, problems, warnings }
}

function ruleProblems(auth: ProxyConfig['auth'], file: string | undefined, readFile: ReadFile): Problem[] {
  const { hba_file: hbaFile, rules } = auth
  const source = file ?? 'configuration'
  const { maps, problems: ofMaps } = certificateMaps(auth.maps, source, 'proxy.auth.maps')
  const names = new Set(maps.keys())
  if (hbaFile !== undefined) {
    const ofFile = problemsIn(hbaFile, readFile, text => {
      const table = parseHba(text, hbaFile)
      return [...table.problems, ...missingMapProblems(table.rules, names, hbaFile)]
    })
    return [...placed(ofMaps, file, readFile), ...ofFile]
  }
  const path = 'proxy.auth.rules'
  const table = parseHbaObjects(rules, source, path)
  const missing = missingMapProblems(table.rules, names, source, path)
  return placed([...ofMaps, ...table.problems, ...missing], file, readFile)
}

/** Problems of the configuration itself, with the lines where they stand. */
function placed(problems: Problem[], file: string | undefined, readFile: ReadFile): Problem[] {
  if (file === undefined || problems.length === 0) return problems
  const document = readDocument(readFile(file).text, file)
  return problems.map(problem => {
    const [, list = 'rules', index] = /\.(\w+)\[(\d+)\]$/.exec(problem.path) ?? []
    const place = document.keyPosition(['proxy', 'auth', list, Number(index)])
    return { ...problem, ...place, message: `\`${problem.path}\`: ${problem.message}` }
  })
}

function usersFileProblems({ users_file: file }: ProxyConfig['auth'], readFile: ReadFile): Problem[] {
  return file === undefined ? [] : problemsIn(file, readFile, text => parseUsersFile(text, file).problems)
}

function problemsIn(file: string, readFile: ReadFile, check: (text: string) => Problem[]): Problem[] {
  try {
    return check(readFile(file).text)
  } catch (error) {
    return [{ file, line: 0, column: 0, path: '', message: `the file ${readFailure(error)}` }]
  }
}
