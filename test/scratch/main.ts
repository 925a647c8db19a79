import { addDemoCommand } from '../../src/cli/demo.ts'
import { createProgram, runProgram, systemIo } from '../../src/cli/terminal.ts'
import { version } from '../../src/cli/version.ts'
const io = systemIo()
const program = createProgram(io, version)
addDemoCommand(program, io)
process.exitCode = await runProgram(program, process.argv.slice(2), io)
