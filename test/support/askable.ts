import type { Askable } from '../../src/proxy/catalog/catalog.ts'
import type { Answer } from '../../src/proxy/relay/conversations.ts'
import { until } from './wait.ts'
import type { Received, WireClient } from './wire-client.ts'

/** A server connection for the proxy's own questions. `failed` takes what goes wrong with the connection itself. */
export function askable(client: WireClient, failed: (cause: unknown) => void): Askable {
  const ask = async (messages: Buffer, done: (answer: Answer) => void): Promise<void> => {
    const from = client.received.length
    client.send(messages)
    const answer = await until('an answer', () => answerSince(client, from))
    const rows = answer.filter(({ code }) => code === 'D').map(({ body }) => body)
    done({ failed: answer.some(({ code }) => code === 'E'), replies: [{ rows }] })
  }
  return { ask: (messages, _readyForQueries, done) => void ask(messages, done).catch(failed) }
}

function answerSince(client: WireClient, from: number): Received[] | undefined {
  if (client.closed) throw new Error('the connection was closed')
  const answer = client.received.slice(from)
  return answer.at(-1)?.code === 'Z' ? answer : undefined
}
