import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Lexer } from '../../src/sql/lexer.ts'

const folder = process.env['PGHERD_POSTGRES_SOURCE']

/** Options of a test that reads the statements of PostgreSQL's own regression suite, of which nothing is kept here. */
export const regressionSource = {
  skip: folder === undefined ? 'PGHERD_POSTGRES_SOURCE names no source tree of PostgreSQL' : false,
}

/** One after another, as psql takes them apart, roughly: what is cut at the wrong place is a text all the same. */
export async function* regressionStatements(): AsyncGenerator<string> {
  if (folder === undefined) return
  const scripts = join(folder, 'src/test/regress/sql')
  for (const name of await readdir(scripts)) {
    if (!name.endsWith('.sql')) continue
    const script = await readFile(join(scripts, name), 'latin1')
    yield* statementsOf(
      script.replace(/^\\.*$/gm, '').replace(/\\(?:g|;|gset|gexec|crosstabview)\b.*$/gm, ';'),
    )
  }
}

function* statementsOf(script: string): Generator<string> {
  const bytes = Buffer.from(script)
  const lexer = new Lexer(bytes, 0, bytes.length)
  let from = 0
  while (lexer.next()) {
    if (!lexer.isOther(0x3b)) continue
    yield bytes.toString('utf8', from, lexer.position)
    from = lexer.position
  }
}
