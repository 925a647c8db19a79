import { spawn } from 'node:child_process'

interface ToolOptions {
  /** What it reads from its standard input; nothing by default. */
  input?: string
  /** Environment beside this process's own, from which all PG* variables are taken out. */
  env?: Record<string, string>
  /** An exit code other than 0 is no error. */
  mayFail?: boolean
  /** It is killed after this long. */
  limitMs?: number
}

interface ToolResult {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs a PostgreSQL program to its end. Throws with what it said unless it ends with code 0. */
export async function runTool(
  command: string,
  args: string[],
  { input = '', env = {}, mayFail = false, limitMs = 60_000 }: ToolOptions = {},
): Promise<ToolResult> {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'))
  const child = spawn(command, args, { env: { ...Object.fromEntries(own), ...env }, timeout: limitMs })
  const result: ToolResult = { code: null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    result.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    result.stderr += text
  })
  // A program that ends before it has read all says so by its exit code.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  result.code = await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (result.code !== 0 && !mayFail) {
    throw new Error(`${command} ended with code ${result.code}: ${result.stderr.slice(-2000)}`)
  }
  return result
}
