import type { CommandIo } from '../../src/cli/output.ts'
import type { FileContent } from '../../src/config/files.ts'

/** A `CommandIo` that keeps what is written, over files that exist only here. */
export interface RecordingIo extends CommandIo {
  out: string
  err: string
}

export function recordingIo(
  options: Partial<Pick<CommandIo, 'env' | 'colour' | 'width' | 'height'>> & {
    files?: Readonly<Record<string, string | FileContent>>
  } = {},
): RecordingIo {
  const { env = {}, colour = false, width, height, files = {} } = options
  const io: RecordingIo = {
    out: '',
    err: '',
    env,
    colour,
    stderrColour: colour,
    width,
    height,
    stdout: text => {
      io.out += text
    },
    stderr: text => {
      io.err += text
    },
    readFile: path => {
      const found = files[path]
      if (found === undefined) throw Object.assign(new Error(`no file ${path}`), { code: 'ENOENT' })
      return typeof found === 'string' ? { text: found, mode: 0o600 } : found
    },
  }
  return io
}
