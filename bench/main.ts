import { join } from 'node:path'
import { configurationsOf, measureAll } from './campaign.ts'
import { chooseContestants, projectFolder } from './contestants/all.ts'
import type { Contestant } from './contestants/contestant.ts'
import { BenchError } from './error.ts'
import { type BenchOptions, readOptions } from './options.ts'
import { markdown, writeDocs, writeResults } from './output.ts'
import type { Results } from './results.ts'

/** npm run bench: see --help. */

const ending = new AbortController()
process.once('SIGINT', () => ending.abort()).once('SIGTERM', () => ending.abort())

try {
  const options = readOptions(process.argv.slice(2))
  const { all, leftOut } = await chooseContestants(options)
  for (const reason of leftOut) console.error(reason)
  if (options.printConfig) printConfigurations(options, all)
  else await bench(options, all, leftOut)
} catch (cause) {
  if (!(cause instanceof BenchError) && !ending.signal.aborted) throw cause
  console.error(ending.signal.aborted ? 'stopped' : (cause as Error).message)
  process.exitCode = cause instanceof BenchError && cause.code === 'usage' ? 2 : 1
}

async function bench(options: BenchOptions, contestants: Contestant[], leftOut: string[]): Promise<void> {
  const { signal } = ending
  const onWorkload = async (results: Results): Promise<void> => {
    await writeResults(options.out, results)
    if (options.docs) await writeDocs(join(projectFolder, 'docs'), results)
    console.error(`results so far are in ${options.out}`)
  }
  const results = await measureAll({ options, contestants, leftOut, onWorkload, signal })
  console.log(options.json ? JSON.stringify(results, null, 2) : markdown(results))
  if (results.cells.some(({ failure }) => failure !== undefined)) process.exitCode = 1
}

function printConfigurations(options: BenchOptions, contestants: Contestant[]): void {
  for (const { workload, contestant, files, command } of configurationsOf(options, contestants)) {
    console.log(`# ${contestant}, for ${workload} and what follows\n${command}`)
    for (const [name, text] of Object.entries(files)) console.log(`# ${name}\n${text}`)
  }
}
