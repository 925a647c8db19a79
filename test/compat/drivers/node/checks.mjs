// Runs the checks of one driver in order and prints a line of JSON for each.
const limitMs = 30_000

export const [url, scramUrl, md5Url] = process.argv.slice(2)
const checks = []

/** Adds a check: an async function that throws when something is wrong. */
export function check(name, work) {
  checks.push({ name, work })
}

export async function run() {
  for (const { name, work } of checks) {
    const result = await attempt(work)
    process.stdout.write(`${JSON.stringify({ name, ...result })}\n`)
  }
  // A driver may keep a socket of a failed check open.
  process.exit(0)
}

async function attempt(work) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${limitMs} ms`)), limitMs)
  })
  try {
    await Promise.race([work(), late])
    return { ok: true }
  } catch (cause) {
    return { ok: false, error: cause instanceof Error ? cause.stack : String(cause) }
  } finally {
    clearTimeout(timer)
  }
}
