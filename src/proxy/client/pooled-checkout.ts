import { readErrorFields, writeQuery } from '../../wire/messages.ts'
import type { ServerConnection } from '../server.ts'
import type { PooledSession } from '../session/pooled-session.ts'
import { bringSettings, settleSession } from '../session/session-exchange.ts'
import type { Client } from './client.ts'
import type { ClientHost } from './client-host.ts'

/** A client of a shared pool. */
export type PooledClient = Client & { readonly session: PooledSession }

/**
 * What lies between getting a server connection and working on it:
 *
 * ```
 * attach -> the server has what the client must see, or another one is looked for
 *        -> what the database's functions do is known
 *        -> the server has the client's settings
 *        -> a transaction that has failed before it had a server has failed there too
 *        -> start
 * ```
 * While the server is asked for any of that the client is held. When the server is lost meanwhile, nothing of what the
 * client wants was sent to it, and another one is looked for.
 */
export function checkOut(client: PooledClient, server: ServerConnection, host: ClientHost): void {
  const { node } = server.target
  // A session that begins has read nothing yet, and asks for nothing.
  const mustSee = client.isGreeted || client.hasAsked
  if (client.route === 'replica' && client.freshOn !== node && mustSee) return catchUp(client, server, host)
  client.readOn = node
  learnFacts(client, server, host)
}

/** It is another node than the one that is known to have what the client must see, or the first. */
function catchUp(client: PooledClient, server: ServerConnection, host: ClientHost): void {
  const { node } = server.target
  client.hold()
  client.awaitsFreshness = true
  host.whenFresh(client, node, isCaughtUp => {
    client.awaitsFreshness = false
    if (!client.isHeld || retriesElsewhere(client, server, host)) return
    if (isCaughtUp) {
      client.readOn = node
      client.freshOn = node
      return learnFacts(client, server, host)
    }
    client.leave(server)
    server.checkIn()
    if (client.route === 'replica') client.avoid(node)
    host.acquire(client)
  })
}

/** Without the facts every call would have to be taken for one that changes the session. */
function learnFacts(client: PooledClient, server: ServerConnection, host: ClientHost): void {
  const database = host.knowledgeOf(client.database)
  if (database.isLoaded) return bringOwn(client, server, host)
  client.hold()
  database.whenLoaded(server, () => {
    if (client.isHeld && !retriesElsewhere(client, server, host)) bringOwn(client, server, host)
  })
}

/** Brings what is the client's own, as far as the server does not have it. */
function bringOwn(client: PooledClient, server: ServerConnection, host: ClientHost): void {
  const { session } = client
  const isOthers = server.sequenceOwner !== undefined && server.sequenceOwner !== session
  // What somebody else has drawn must not be told as what this client has.
  const forgets = isOthers && host.knowledgeOf(client.database).sequenceReaders.has(client.user)
  if (!forgets && server.settings.equals(session.settings)) start(client, server, host)
  else bring(client, server, forgets, host)
}

function bring(client: PooledClient, server: ServerConnection, forgets: boolean, host: ClientHost): void {
  client.hold()
  bringSettings(client.session, server, forgets, failure => {
    if (!client.isHeld || retriesElsewhere(client, server, host)) return
    if (!failure) return start(client, server, host)
    const wasUsed = server.settings.values.size > 0
    server.isSpoiled = true
    // What another client has left may be in the way; on a connection without settings it is the client's own.
    if (wasUsed) {
      server.abort()
      retriesElsewhere(client, server, host)
      return
    }
    if (!client.isGreeted) return client.refuse(failure)
    const why = readErrorFields(failure).get('M') ?? ''
    client.end('session_lost', `the session's settings could not be brought to ${server.target.node}: ${why}`)
  })
}

function start(client: PooledClient, server: ServerConnection, host: ClientHost): void {
  const { begun } = client
  if (!begun?.hasFailed) return client.start(server)
  client.hold()
  server.ask(beginAndFail, 2, () => {
    if (!client.isHeld || retriesElsewhere(client, server, host)) return
    server.transactionSinceMs = begun.sinceMs
    client.begun = undefined
    client.start(server)
  })
}

const beginAndFail = Buffer.concat([writeQuery('BEGIN'), writeQuery('pgherd was asked to cancel')])

function retriesElsewhere(client: PooledClient, server: ServerConnection, host: ClientHost): boolean {
  if (!server.isClosed) return false
  client.leave(server)
  client.forgetTried()
  host.acquire(client)
  return true
}

/** Learns from the server what the session holds by now. The client is held meanwhile, and then goes on. */
export function settle(client: PooledClient, server: ServerConnection, host: ClientHost): void {
  const { session } = client
  client.hold()
  settleSession(session, server, host.knowledgeOf(client.database), client.user, client.mode, () => {
    if (!client.isHeld || server.isClosed) return
    const before = session.pinsTold
    if (before !== session.pins) {
      session.pinsTold = session.pins
      host.onPinned(client, before)
    }
    // What it had asked for when it connected is back after a RESET; a client that gives its server back gets it
    // on the next one.
    const goesOn = session.isPinned || client.hasAhead
    if (goesOn && !server.settings.equals(session.settings)) bring(client, server, false, host)
    else client.goOn(server)
  })
}
