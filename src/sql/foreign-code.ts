import { anyEffects, Effect, type NameEffects } from './effects.ts'

/**
 * Functions whose code cannot be read as SQL: those of extensions in C, which are taken for harmless unless they
 * are known to keep something in the session, and those in other languages, which may run SQL from any string.
 */
interface ExtensionRule {
  /** Which functions; those of the extension that do not match are harmless. */
  functions: RegExp
  effects: NameEffects
}

const keepsState = (extension: string): NameEffects => ({
  mask: Effect.Changes,
  customSettings: [],
  obstacle: `it has used the extension ${extension}, which keeps state in its session`,
})
/** Runs SQL text or calls what is named in its arguments. */
const runsText: NameEffects = { mask: anyEffects, customSettings: [], obstacle: undefined }
/** Sets a setting that the server tells about. */
const setsSetting: NameEffects = { mask: Effect.Changes, customSettings: [], obstacle: undefined }

const extensionRules = new Map<string, ExtensionRule>([
  // Connections by name, and cursors and queries on them.
  [
    'dblink',
    { functions: /^dblink_(connect|connect_u|disconnect|open|send_query)$/, effects: keepsState('dblink') },
  ],
  ['hll', { functions: /^hll_set_/, effects: keepsState('hll') }],
  ['http', { functions: /curlopt$/, effects: keepsState('http') }],
  [
    'orafce',
    {
      functions:
        /^(enable|disable|serveroutput|put|put_line|new_line|register|remove|removeall|pack_message.*|initialize|seed|fopen.*|set_.*|include_start|use_.*|unset_.*|default_holidays)$/,
      effects: keepsState('orafce'),
    },
  ],
  ['pg_background', { functions: /./, effects: keepsState('pg_background') }],
  ['pg_trgm', { functions: /^set_limit$/, effects: setsSetting }],
  ['pg_variables', { functions: /./, effects: keepsState('pg_variables') }],
  ['pldbgapi', { functions: /./, effects: keepsState('pldbgapi') }],
  ['session_variable', { functions: /./, effects: keepsState('session_variable') }],
  ['set_user', { functions: /./, effects: keepsState('set_user') }],
  ['tablefunc', { functions: /^(crosstab|connectby)/, effects: runsText }],
  ['temporal_tables', { functions: /^set_system_time$/, effects: keepsState('temporal_tables') }],
  ['xml2', { functions: /^xpath_table$/, effects: runsText }],
])

/** Extensions whose C functions have to be looked at. */
export const extensionsWithState: readonly string[] = [...extensionRules.keys()]

const languageName = /^(plperlu?|plpython[23]?u|pltclu?|plv8|plcoffee|plls|pljs|plr|plluau?)$/
const keepsData = /\b_SHARED\b|\bGD\b|\bSD\b|\bglobalThis\b|\bglobal\b|\bplv8\.\w+\s*=/
const runsSql = /spi|plpy|plv8|pljs|execute|subtransaction|pg\.|server\./i
/** The C names of built-in functions that `builtinRules` has by their SQL names, and other ways to say so. */
const touchyInternal =
  /set_config|advisory|setseed|replication|backup|_to_xml|ts_stat|ts_rewrite|currval|lastval/

/** What may come with calling a function that is neither SQL nor PL/pgSQL; undefined for nothing. */
export function foreignCodeEffects(
  name: string,
  language: string,
  extension: string,
  body: string | undefined,
): NameEffects | undefined {
  if (language === 'internal') {
    return body === undefined || touchyInternal.test(body) ? runsText : undefined
  }
  if (language === 'c') {
    if (extension === '') return runsText
    const rule = extensionRules.get(extension)
    return rule?.functions.test(name) ? rule.effects : undefined
  }
  if (body === undefined || !languageName.test(language)) return runsText
  if (keepsData.test(body)) {
    return {
      mask: anyEffects,
      customSettings: [],
      obstacle: `it has called a function in ${language} that keeps data in its session`,
    }
  }
  return runsSql.test(body) ? runsText : undefined
}
