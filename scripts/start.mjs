// npm start: everything from a fresh clone to a running demo. Arguments after `--` go to `pgherd demo`.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { build, checkNode, ensureDependencies, exitCode, root } from './support.mjs'

checkNode()
await ensureDependencies()
await build()

const interactive = ownsTerminal()
// The demo must see each signal once. At a terminal, Ctrl-C and hanging up reach it by themselves. Otherwise it gets
// a session of its own, so that a signal to our whole process group reaches it only through us.
const demo = spawn(process.execPath, [join(root, 'dist/src/main.js'), 'demo', ...process.argv.slice(2)], {
  stdio: 'inherit',
  detached: !interactive,
})
const passedOn = new Set()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (interactive && signal !== 'SIGTERM') return
    // npm passes signals on too, so one that was sent to all of us arrives here twice.
    if (!passedOn.has(signal)) demo.kill(signal)
    passedOn.add(signal)
  })
}
demo.once('error', cause => {
  console.error(`cannot run Node.js: ${cause.message}`)
  process.exitCode = 1
})
demo.once('exit', (code, signal) => {
  process.exitCode = exitCode(code, signal)
})

/** Whether we are in the foreground of a terminal, which sends its signals to all of the foreground. */
function ownsTerminal() {
  if (process.platform !== 'linux') return process.stdin.isTTY || process.stdout.isTTY
  const stat = readFileSync('/proc/self/stat', 'latin1')
  const [, , group, , , foregroundGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return group === foregroundGroup
}
