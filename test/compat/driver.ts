import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { mayLack } from '../support/need.ts'
import { compatModes } from './modes.ts'
import { type CompatServers, md5User, scramUser, startCompatServers, urlOf } from './setup.ts'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..')
const programLimitMs = 120_000

/** What one driver's program says of one check, a line of JSON each. */
interface CheckResult {
  name: string
  ok: boolean
  error?: string
}

interface DriverSuite {
  /** Name of the driver. */
  name: string
  /** Folder below `drivers` that its program stands in, and below the cache that it was made ready in. */
  ecosystem: string
  /** The command that runs it, in that folder of the cache. */
  command: string[]
}

/**
 * Runs a driver's program against every mode and reports each of its checks as a test. The programs are made ready
 * by `npm run test:compat`; one whose ecosystem is missing on this machine is skipped with the reason.
 */
export function driverSuite({ name, ecosystem, command }: DriverSuite): void {
  const folder = join(root, 'node_modules/.cache/pgherd-compat', ecosystem)
  const skip = whyNotReady(ecosystem, folder)
  let servers: CompatServers | undefined
  if (!skip) {
    before(async () => {
      servers = await startCompatServers()
    })
    after(() => servers?.stop())
  }
  for (const mode of compatModes()) {
    test(`${name}, ${mode.name}`, { skip }, async t => {
      const target = servers?.targets.find(target => target.mode === mode)
      assert.ok(target)
      const urls = [undefined, scramUser, md5User].map(user => urlOf(target.port, user))
      let checks = 0
      await runProgram([...command, ...urls], folder, async result => {
        checks++
        await report(t, result, mode.differences[result.name])
      })
      assert.ok(checks > 0, 'the program reported no check')
    })
  }
}

async function report(t: TestContext, { name, ok, error }: CheckResult, difference: string | undefined) {
  await t.test(name, t => {
    if (ok) return
    if (difference !== undefined) {
      t.skip(difference)
      return
    }
    const failure = new Error(error ?? 'no error was told')
    // Where it failed is told by the program; where its line was read tells nobody anything.
    failure.stack = failure.message
    throw failure
  })
}

/** Runs a program and hands on every check as its line comes; fails unless it ends by itself with code 0. */
async function runProgram(
  command: string[],
  cwd: string,
  onCheck: (result: CheckResult) => Promise<void>,
): Promise<void> {
  const [file = '', ...args] = command
  const child = spawn(file, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], timeout: programLimitMs })
  const ended = exitOf(child)
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-4000)
  })
  let last = 'none'
  for await (const line of createInterface({ input: child.stdout })) {
    const result = JSON.parse(line) as CheckResult
    last = result.name
    await onCheck(result)
  }
  const exit = await ended
  assert.equal(exit, 'code 0', `the program ended early; its last check: ${last}\n${errors}`)
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(signal ? `signal ${signal}` : `code ${code}`))
  })
}

/** Why a program cannot be run here, or false. A toolchain that is missing is never a failure. */
function whyNotReady(ecosystem: string, folder: string): string | false {
  const file = join(folder, 'ready.json')
  if (!existsSync(file)) return mayLack(`${ecosystem} programs are not built: use npm run test:compat`)
  const { missing, problem } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string | undefined>
  if (missing !== undefined) return missing
  return problem === undefined ? false : mayLack(problem)
}
