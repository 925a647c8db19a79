#!/usr/bin/env node
/** The command line. Each command loads what it needs when it runs, so that help and one-shot commands are quick. */
import { addAgentCommand } from './cli/agent.ts'
import { addConfigCommands } from './cli/config-commands.ts'
import { addDemoCommand } from './cli/demo.ts'
import { addExplainCommand } from './cli/explain.ts'
import { addImportCommand } from './cli/import.ts'
import { addNodeCommands } from './cli/node.ts'
import { addProxyCommand } from './cli/proxy.ts'
import { addStatusCommand } from './cli/status.ts'
import { addStoreCommands } from './cli/store.ts'
import { createProgram, runProgram, systemIo } from './cli/terminal.ts'
import { addUpCommand } from './cli/up.ts'
import { version } from './cli/version.ts'

const io = systemIo()
const program = createProgram(io, version)
addDemoCommand(program, io)
addUpCommand(program, io)
addAgentCommand(program, io)
addProxyCommand(program, io)
addStatusCommand(program, io)
addExplainCommand(program, io)
addNodeCommands(program, io)
addConfigCommands(program, io)
addStoreCommands(program, io)
addImportCommand(program, io)
const code = await runProgram(program, process.argv.slice(2), io)
// Once the output is out: a connection that some library still holds must not keep a process that has stopped.
process.stdout.write('', () => process.exit(code))
