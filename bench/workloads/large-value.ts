import { frame, writeQuery } from '../../src/wire/messages.ts'
import { logIn, type Visit } from '../client.ts'
import { memoryNow } from '../meter.ts'
import { peakMb, readProcesses, treeOf } from '../processes.ts'
import type { Workload } from './workload.ts'

const megabyte = 1024 * 1024
const copyDone = frame(0x63, Buffer.alloc(0))

/** The most memory that a proxy holds while 1 GB passes. PostgreSQL itself makes no value of that size. */
export const largeValues: readonly Workload[] = [
  peak('peak-value-out', 'most memory: a value of 1000 MB to the client', visit =>
    visit.run(`select repeat('x', ${1000 * megabyte})`),
  ),
  peak('peak-copy-out', 'most memory: COPY of 1 GB to the client', visit =>
    visit.run("copy (select repeat('x', 1048575) from generate_series(1, 1024)) to stdout"),
  ),
  peak('peak-value-in', 'most memory: a value of 500 MB to the server', visit =>
    visit.run(`select length('${'x'.repeat(500 * megabyte)}')`),
  ),
  peak('peak-copy-in', 'most memory: COPY of 1 GB to the server', async visit => {
    const ready = visit.ready()
    visit.socket.write(writeQuery('create temporary table sink (t text); copy sink from stdin'))
    const line = frame(0x64, Buffer.from(`${'x'.repeat(megabyte - 1)}\n`))
    for (let left = 1024; left > 0; left--) await visit.send(line)
    visit.socket.write(copyDone)
    await ready
  }),
]

/** Each begins with fresh processes: the kernel tells the most that a process has ever held. */
function peak(name: string, title: string, work: (visit: Visit) => Promise<void>): Workload {
  return {
    name,
    title,
    group: 'large-value',
    clients: [1],
    hasFixedClients: true,
    columns: ['peakMb', 'growthMb'],
    compared: ['peakMb'],
    placement: 'shared',
    login: 'trust',
    proxiesOnly: true,
    startsFresh: true,
    workers: 1,
    run: async ({ contestant, postgres }) => {
      const visit = await logIn(contestant.port, postgres.keys)
      await visit.run('select 1')
      const { residentMb } = memoryNow(contestant.pid)
      await work(visit)
      visit.end()
      const most = peakMb(treeOf(readProcesses(), contestant.pid!))
      return { peakMb: most, growthMb: most - residentMb! }
    },
  }
}
