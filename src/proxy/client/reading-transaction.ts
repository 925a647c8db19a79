import { TransactionStatus } from '../../wire/codes.ts'
import { writeQuery } from '../../wire/messages.ts'
import type { ServerConnection } from '../server.ts'
import type { Client } from './client.ts'
import type { ClientHost } from './client-host.ts'

/**
 * Runs a request in a transaction that only reads, on a replica, which has answered all that came before. What is no
 * read goes to the primary, and the transaction with it: as every statement of it sees what is there when it begins,
 * nobody can tell.
 */
export function runInReading(
  client: Client,
  request: Buffer,
  server: ServerConnection,
  host: ClientHost,
): void {
  const staysHere = host.goesOn(client, request)
  const hasFailed = server.status === TransactionStatus.Failed
  if (staysHere === 'yes' || (hasFailed && staysHere !== 'several')) client.goOnWith(request)
  else if (staysHere === 'if fresh') awaitFreshness(client, request, server, host)
  else moveTransaction(client, request, server)
}

function awaitFreshness(client: Client, request: Buffer, server: ServerConnection, host: ClientHost): void {
  client.hold()
  client.awaitsFreshness = true
  host.whenFresh(client, client.home, isFresh => {
    client.awaitsFreshness = false
    if (!client.isHeld) return
    if (!isFresh || server.isClosed) moveTransaction(client, request, server)
    else client.goOnWith(request)
  })
}

function moveTransaction(client: Client, request: Buffer, server: ServerConnection): void {
  const hasFailed = server.status === TransactionStatus.Failed
  const begun = { ...client.transaction!, readsOnly: false, hasFailed }
  const goOn = (): void => {
    if (!client.isHeld) return
    client.leave(server)
    server.transactionSinceMs = 0
    if (!server.isClosed) server.checkIn()
    client.route = 'primary'
    client.runElsewhere(request, begun)
  }
  client.hold()
  if (server.isClosed) goOn()
  else server.ask(rollback, 1, goOn)
}

const rollback = writeQuery('ROLLBACK')
