import type { Askable } from '../../src/proxy/catalog.ts'
import type { Answer } from '../../src/proxy/conversations.ts'
import type { WireClient } from './wire-client.ts'

/** A server connection for the proxy's own questions. `failed` takes what goes wrong with the connection itself. */
export function askable(client: WireClient, failed: (cause: unknown) => void): Askable {
  const answerTo = async (messages: Buffer): Promise<Answer> => {
    const from = client.received.length
    client.send(messages)
    await client.ready(from)
    const answer = client.received.slice(from)
    const rows = answer.filter(({ code }) => code === 'D').map(({ body }) => body)
    return { failed: answer.some(({ code }) => code === 'E'), replies: [{ rows }] }
  }
  return { ask: (messages, _readyForQueries, done) => void answerTo(messages).then(done).catch(failed) }
}
