import { writeSync } from 'node:fs'
import { openEmbedded, put, write } from './stores.ts'

/**
 * A process of its own that writes to the embedded store in the folder given, from many places at once, and prints
 * `<key> <n> <revision>` for every write that was acknowledged. It goes on until it is killed, or until a write is
 * refused: then it prints the code and stops.
 */
const [, , folder, size = '2000'] = process.argv
const filler = 'x'.repeat(Number(size))
const store = await openEmbedded(folder)

async function writeForever(key: string): Promise<void> {
  const { entry } = await store.get(key)
  for (let n = Number(entry?.value.split(' ')[0] ?? 0) + 1; ; n++) {
    const value = `${n} ${filler}`
    const revision = await write(store, put(key, value), put(`${key}/twin`, value))
    // Past the pipe's buffer of this process: what the parent reads was acknowledged before the kill.
    writeSync(1, `${key} ${n} ${revision}\n`)
  }
}

try {
  await Promise.all(Array.from({ length: 8 }, (_, index) => writeForever(`/w${index}`)))
} catch (cause) {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause)
  const { revision } = await store.get('/w0')
  writeSync(1, `refused ${code} ${revision}\n`)
  await store.close()
}
