import { frame, writeQuery } from '../../src/wire/messages.ts'
import { logIn, type Visit } from '../client.ts'
import { Meter } from '../meter.ts'
import type { Sample } from '../metrics.ts'
import type { BenchPostgres } from '../postgres.ts'
import type { Run, Workload } from './workload.ts'

const rows = 1_000_000
const fill = 'x'.repeat(80)
const rowsAPiece = 500
const megabyte = 1024 * 1024
const copyDone = frame(0x63, Buffer.alloc(0))

/** Resolves to the bytes that have passed. */
type Work = (visit: Visit) => Promise<number>

/** How fast much data passes on one connection. */
export const transfers: readonly Workload[] = [
  transfer('large-result', 'SELECT of a million rows of 100 bytes', visit =>
    received(visit, 'select * from many'),
  ),
  transfer('copy-out', 'COPY of a million rows to the client', visit =>
    received(visit, 'copy many to stdout'),
  ),
  transfer('copy-in', 'COPY of a million rows to the server', copyIn),
]

function transfer(name: string, title: string, work: Work): Workload {
  return {
    name,
    title: `${title}; proxies on one processor, all else on the others`,
    group: 'throughput',
    clients: [1],
    hasFixedClients: true,
    columns: ['speedMb', 'proxyCpuMs', 'totalCpuMs'],
    compared: ['speedMb', 'proxyCpuMs'],
    placement: 'apart',
    login: 'trust',
    workers: 1,
    prepare: makeTables,
    run: run => measure(run, work),
  }
}

async function makeTables(postgres: BenchPostgres): Promise<void> {
  await postgres.query(`drop table if exists many, sink; create unlogged table sink (i int, fill text);
    create unlogged table many as select i, '${fill}' as fill from generate_series(1, ${rows}) i`)
  await postgres.query('vacuum many')
}

/** As often as the time allows, at least once after one to warm up. */
async function measure({ contestant, postgres, seconds }: Run, work: Work): Promise<Sample> {
  const visit = await logIn(contestant.port, postgres.keys)
  await work(visit)
  const meter = new Meter({ proxy: contestant.pid, postgres: postgres.pid, load: process.pid })
  const startMs = performance.now()
  let bytes = 0
  do bytes += await work(visit)
  while (performance.now() - startMs < seconds * 1000)
  const tookS = (performance.now() - startMs) / 1000
  const { proxyMs, totalMs } = meter.used()
  visit.end()
  const hundredMegabytes = bytes / megabyte / 100
  return {
    speedMb: bytes / megabyte / tookS,
    ...(proxyMs !== undefined && { proxyCpuMs: proxyMs / hundredMegabytes }),
    totalCpuMs: totalMs / hundredMegabytes,
  }
}

async function received(visit: Visit, sql: string): Promise<number> {
  const before = visit.receivedBytes
  await visit.run(sql)
  return visit.receivedBytes - before
}

async function copyIn(visit: Visit): Promise<number> {
  await visit.run('truncate sink')
  const ready = visit.ready()
  const piece = Buffer.concat(
    Array.from({ length: rowsAPiece }, (_, i) => frame(0x64, Buffer.from(`${i}\t${fill}\n`))),
  )
  visit.socket.write(writeQuery('copy sink from stdin'))
  const pieces = Math.ceil(rows / rowsAPiece)
  for (let sent = 0; sent < pieces; sent++) await visit.send(piece)
  visit.socket.write(copyDone)
  await ready
  return pieces * piece.length
}
