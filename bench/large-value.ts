/**
 * The most memory that a proxy holds while a value of almost 1 GB passes, and while 1 GB is copied each way.
 *   npm run build && node dist/bench/large-value.js [--json]
 */
import { parseArgs } from 'node:util'
import { frame, writeQuery } from '../src/wire/messages.ts'
import { report, type Series } from './report.ts'
import { memoryPeakBytes, startStand } from './stand.ts'
import { logIn, type Visit } from './wire.ts'

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } })
const megabyte = 1024 * 1024
/** PostgreSQL itself makes no value, and no message, of 1 GB. */
const valueBytes = 1000 * megabyte
const copyDone = frame(0x63, Buffer.alloc(0))

const works: Record<string, (visit: Visit) => Promise<void>> = {
  'nothing, beside a login': visit => visit.run('select 1'),
  'a value of 1000 MB to the client': visit => visit.run(`select repeat('x', ${valueBytes})`),
  'COPY of 1 GB to the client': visit =>
    visit.run("copy (select repeat('x', 1048575) from generate_series(1, 1024)) to stdout"),
  'a value of 500 MB to the server': visit => visit.run(`select length('${'x'.repeat(500 * megabyte)}')`),
  'COPY of 1 GB to the server': async visit => {
    const ready = visit.ready()
    visit.socket.write(writeQuery('create temporary table sink (t text); copy sink from stdin'))
    const line = frame(0x64, Buffer.from(`${'x'.repeat(megabyte - 1)}\n`))
    for (let left = 1024; left > 0; left--) await visit.send(line)
    visit.socket.write(copyDone)
    await ready
  },
}

const series: Series[] = []
for (const [name, work] of Object.entries(works)) {
  const peaks: Series = { name, unit: 'MB, the largest process', values: {} }
  // Each begins with fresh processes: the kernel tells the most that a process has ever held.
  const stand = await startStand({ workers: 1 })
  try {
    for (const contestant of [stand.pgbouncer, stand.pgherd]) {
      const visit = await logIn(contestant.port, stand.keys)
      await work(visit)
      // The last of pgherd's processes is its data worker.
      peaks.values[contestant.name] = [(await memoryPeakBytes(contestant.pids.slice(-1))) / megabyte]
      visit.end()
    }
  } finally {
    await stand.stop()
  }
  series.push(peaks)
}
report(series, values.json)
