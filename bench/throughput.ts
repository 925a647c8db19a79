/**
 * How fast much data passes: a million rows by SELECT and by COPY to the client, and by COPY to the server. Besides the
 * time it takes, the processor time of each proxy is told, which does not depend on what else the machine does.
 *   npm run build && node dist/bench/throughput.js [--rounds 7] [--rows 1000000] [--json]
 */
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { frame, writeQuery } from '../src/wire/messages.ts'
import { report, type Series } from './report.ts'
import { processorMs, startStand } from './stand.ts'
import { logIn, type Visit } from './wire.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    rows: { type: 'string', default: '1000000' },
    json: { type: 'boolean', default: false },
  },
})
const rows = Number(values.rows)
const fill = 'x'.repeat(80)
const megabyte = 1024 * 1024
const copyDone = frame(0x63, Buffer.alloc(0))
const rowsAPiece = 500

type Work = (visit: Visit) => Promise<number>
const works: Record<string, Work> = {
  'SELECT of a million rows': visit => received(visit, 'select * from many'),
  'COPY to the client': visit => received(visit, 'copy many to stdout'),
  'COPY to the server': copyIn,
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

const stand = await startStand({ workers: 1, pinned: true })
const speeds: Series[] = Object.keys(works).map(name => ({ name, unit: 'MB/s', values: {} }))
const costs: Series[] = Object.keys(works).map(name => ({
  name,
  unit: 'processor ms of the proxy a 100 MB',
  values: {},
}))
try {
  const setUp = await logIn(stand.postgres.port, stand.keys)
  await setUp.run(
    `create unlogged table many as select i, '${fill}' as fill from generate_series(1, ${rows}) i`,
  )
  await setUp.run('vacuum many')
  await setUp.run('create unlogged table sink (i int, fill text)')
  setUp.end()
  // The first round warms up, and does not count.
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [index, work] of Object.values(works).entries()) {
      for (const contestant of [stand.postgres, stand.pgbouncer, stand.pgherd]) {
        const visit = await logIn(contestant.port, stand.keys)
        const usedMs = await processorMs(contestant.pids)
        const startMs = performance.now()
        const megabytes = (await work(visit)) / megabyte
        const speed = (megabytes * 1000) / (performance.now() - startMs)
        const costMs = (((await processorMs(contestant.pids)) - usedMs) * 100) / megabytes
        visit.end()
        if (round === 0) continue
        ;(speeds[index]!.values[contestant.name] ??= []).push(speed)
        if (contestant.pids.length > 0) (costs[index]!.values[contestant.name] ??= []).push(costMs)
      }
    }
  }
} finally {
  await stand.stop()
}
report([...speeds, ...costs], values.json)
