// Node's own `spec` report, followed at the very end by what was skipped and why, and by the counts.
import { Readable } from 'node:stream'
import { spec as Spec } from 'node:test/reporters'

const counts = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /

export default async function* report(source) {
  const skipped = []
  const closing = []
  async function* body() {
    for await (const event of source) {
      const { type, data } = event
      if (type === 'test:pass' && data.skip !== undefined) {
        skipped.push(typeof data.skip === 'string' ? `${data.name}: ${data.skip}` : data.name)
      }
      if (type === 'test:diagnostic' && data.nesting === 0 && counts.test(data.message))
        closing.push(data.message)
      else yield event
    }
  }
  yield* Readable.from(body()).pipe(new Spec())
  yield '\n'
  for (const reason of skipped) yield `skipped ${reason}\n`
  for (const line of closing) yield `# ${line}\n`
}
