import { fleetKeyOf } from './fleet.ts'
import { type Field, fields, type Section, sections } from './keys.ts'
import { commandVariables } from './schema.ts'
import { oneLine } from './show.ts'

/**
 * `docs/configuration.md`, made from the schema. A test compares the file with this; `npm run docs` writes it.
 */
export function referenceMarkdown(): string {
  const parts = [
    introduction,
    ...sections.filter(({ pattern }) => fieldsOf(pattern).length > 0).map(sectionMarkdown),
    variablesMarkdown(),
    '## Everything in one file',
    'Every key with its default. Those behind a `#` have none.',
    `\`\`\`yaml\n${sampleYaml()}\`\`\``,
  ]
  return `${parts.join('\n\n')}\n`
}

const introduction = `<!-- Made from src/config/schema.ts by \`npm run docs\`. Changes belong there. -->
# Configuration

pgherd reads one YAML file: the one named by \`--config\`, else by \`PGHERD_CONFIG\`, else \`pgherd.yaml\` in the
folder it was started in, else \`/etc/pgherd/pgherd.yaml\`. Every key has a default, so that an empty file, or
none, is a configuration too.

- **Precedence**: flags of the command line, then environment variables, then the file, then the settings of the
  fleet, then defaults.
- **Fleet**: keys marked *fleet* can be set for all proxies of a cluster at once, in the store:
  \`pgherd config set\` ([Settings of the fleet](operations.md#settings-of-the-fleet)).
- **Durations** carry a unit: \`200ms\`, \`30s\`, \`5m\`, \`1h\`, \`1d\`. Only \`0\` needs none.
- **Sizes** carry a unit: \`512B\`, \`64kB\`, \`16MB\`, \`1GB\`, \`1TB\`, as in PostgreSQL in powers of 1024.
- **Names** have up to 63 letters, digits, \`.\`, \`_\` and \`-\`, and begin with a letter or a digit.
- **Files** named by keys that end in \`_file\` are meant from the folder of the configuration file; \`store.path\`
  from the folder that pgherd was started in.
- **Secrets** are best kept in a file of their own (\`password_file\`, \`token_file\`) or in an environment
  variable. A newline at the end of such a file is ignored. pgherd never prints a secret.
- **Reload**: on SIGHUP the file is read again. Keys marked *live* count at once; for those marked *restart*
  pgherd says that they wait. When anything in the file is wrong, nothing is applied.

\`pgherd config check\` says what is wrong with a file, with line and column; \`pgherd config show\` says what
counts, and where each value comes from; \`pgherd config schema\` prints a JSON Schema for editors.`

function fieldsOf(section: string): Field[] {
  return fields.filter(field => field.section === section)
}

function sectionMarkdown({ pattern, description }: Section): string {
  const title = pattern === '' ? '## Top level' : `## \`${pattern.replace('.*', '.<name>')}\``
  const rows = fieldsOf(pattern).map(field => {
    const { description, reload, env } = field.meta
    const variable = env === undefined ? '' : `\`${env}\``
    const cells = [
      `\`${field.name}\``,
      valueText(field),
      defaultText(field),
      // What stands in a mapping of the fleet can be set by itself as well: `proxy.databases.app.pool_size`.
      fleetKeyOf(field.pattern.split('.')) !== undefined ? `${reload}, fleet` : reload,
      escaped(description),
      variable,
    ]
    return `| ${cells.join(' | ')} |`
  })
  const head = ['| key | value | default | reload | what it is | variable |', '|---|---|---|---|---|---|']
  const table = [...head, ...rows].join('\n')
  return [title, ...(description === '' ? [] : [description]), table].join('\n\n')
}

/** What a value must be, without what the introduction says already. */
function valueText({ meta }: Field): string {
  const text = meta.expected
    .replace(/, such as .*$/, '')
    .replace(/ of up to 63 letters.*$/, '')
    .replace(/^(an?|the) /, '')
  return escaped(meta.secret ? `${text}, secret` : text)
}

function defaultText({ byDefault, required, meta }: Field): string {
  if (meta.defaultText !== undefined) return meta.defaultText
  if (required) return 'required'
  return byDefault === undefined ? '' : `\`${oneLine(byDefault)}\``
}

function variablesMarkdown(): string {
  const rows = Object.entries(commandVariables).map(([name, text]) => `| \`${name}\` | ${escaped(text)} |`)
  return [
    '## Environment',
    'Variables that set a key stand beside it above; an empty one counts as not set, and a list is separated by ' +
      'commas. These say where to look:',
    ['| variable | what it is |', '|---|---|', ...rows].join('\n'),
  ].join('\n\n')
}

function escaped(text: string): string {
  return text.replaceAll('|', '\\|')
}

/** A file with every key at its default, described; what has no default is commented out. */
export function sampleYaml(): string {
  const lines: string[] = []
  writeSection('', 0, lines)
  return `${lines.join('\n')}\n`
}

function writeSection(pattern: string, depth: number, lines: string[]): void {
  const section = sections.find(section => section.pattern === pattern)
  for (const key of section?.keys ?? []) {
    const child = pattern === '' ? key : `${pattern}.${key}`
    const field = fields.find(field => field.pattern === child)
    const list = sections.find(section => section.pattern === `${child}[]`)
    if (field) writeField(field, depth, lines)
    else if (list) writeList(list, key, depth, lines)
    else writeSubsection(child, key, depth, lines)
  }
}

function writeField({ name, meta, byDefault }: Field, depth: number, lines: string[]): void {
  const indent = '  '.repeat(depth)
  lines.push(`${indent}# ${meta.description}`)
  lines.push(byDefault === undefined ? `${indent}#${name}:` : `${indent}${name}: ${oneLine(byDefault)}`)
}

function writeSubsection(pattern: string, name: string, depth: number, lines: string[]): void {
  const section = sections.find(section => section.pattern === pattern)
  const indent = '  '.repeat(depth)
  const inner: string[] = []
  writeSection(pattern, depth + 1, inner)
  if (depth === 0) lines.push('')
  lines.push(`${indent}# ${section?.description ?? ''}`)
  if (section?.defaulted) lines.push(`${indent}${name}:`, ...inner)
  else lines.push(`${indent}#${name}:`, ...inner.map(line => `${indent}#${line.slice(indent.length)}`))
}

function writeList(section: Section, name: string, depth: number, lines: string[]): void {
  const indent = '  '.repeat(depth)
  lines.push('', `${indent}# ${section.description}`, `${indent}${name}: []`)
  lines.push(`${indent}#  - host: 10.0.0.1`, `${indent}#    zone: a`)
}
