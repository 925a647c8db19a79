import { callEffects, laterEffects } from '../../sql/session-effects.ts'
import { writeQueryBytes } from '../../wire/messages.ts'
import type { Database } from '../catalog/database.ts'
import type { PoolMode } from '../pool/limits.ts'
import type { ServerConnection } from '../server.ts'
import { isOwn } from './own-settings.ts'
import type { PooledSession } from './pooled-session.ts'
import { readSettingAnswer, writeSessionQuestion, writeSettingQuestion } from './session-question.ts'
import { settingsChange } from './settings.ts'

/**
 * Makes a server connection's settings those of a client. `done` gets the body of PostgreSQL's error when that does
 * not work; then nobody knows what the settings are.
 */
export function bringSettings(
  session: PooledSession,
  server: ServerConnection,
  forgetsSequences: boolean,
  done: (failure: Buffer | undefined) => void,
): void {
  const { settings } = session
  const statements = settingsChange(server.settings, settings)
  if (forgetsSequences) {
    statements.push('DISCARD SEQUENCES')
    server.sequenceOwner = undefined
  }
  server.customNames = union(server.customNames, settings.customNames)
  server.ask(Buffer.concat(statements.map(writeQueryBytes)), statements.length, answer => {
    if (!answer.failed) server.settings = settings
    done(answer.failed ? (answer.error ?? noError) : undefined)
  })
}

const noError = Buffer.from('Mthe server did not answer\0\0')

/**
 * Asks a server connection at rest what the session on it holds, and lets `session` learn it. Functions that were
 * not known when they were called are looked up first.
 */
export function settleSession(
  session: PooledSession,
  server: ServerConnection,
  database: Database,
  user: string,
  mode: PoolMode,
  done: () => void,
): void {
  const { unknownCalls, changesCatalog } = session
  if (unknownCalls.length > 0 || changesCatalog) {
    session.unknownCalls = []
    session.changesCatalog = false
    if (changesCatalog) database.tellChange()
    database.load(server, isLoaded => {
      if (server.isClosed) return done()
      session.note(callEffects(unknownCalls, database.facts))
      if (unknownCalls.length > 0 && isLoaded) database.noteNoCalls(unknownCalls)
      // They may have set anything under any name.
      if (unknownCalls.length > 0 && !isLoaded) session.pinForGood('unseen_setting')
      // What was run after the change was judged by what was known before it.
      if (changesCatalog) session.note(laterEffects(database.facts))
      session.changesCatalog = false
      settleSession(session, server, database, user, mode, done)
    })
    return
  }
  const { onlyChanged } = session
  if (onlyChanged !== undefined) return settleSetting(session, server, onlyChanged, done)
  server.ask(writeSessionQuestion(session.customNames), 1, answer => {
    if (server.isClosed) return done()
    const settings = session.learn(answer, user)
    if (settings) server.settings = settings
    server.customNames = union(server.customNames, session.customNames)
    if (mode !== 'auto' && session.isPinned) session.giveUpPins(server)
    done()
  })
}

/** The same when nothing but one setting can be another one. */
function settleSetting(
  session: PooledSession,
  server: ServerConnection,
  name: string,
  done: () => void,
): void {
  server.ask(writeSettingQuestion(name), 1, answer => {
    if (server.isClosed) return done()
    const value = readSettingAnswer(answer, name)
    server.customNames = union(server.customNames, session.customNames)
    // Whatever was wrong, the next question is about everything.
    if (value === undefined) session.doubt()
    else server.settings = session.learnSetting(name, value, server.settings)
    done()
  })
}

/** What a setting of pgherd's own leaves behind is no difference to anybody. */
function union(some: ReadonlySet<string>, more: Iterable<string>): ReadonlySet<string> {
  const added = [...more].filter(name => !some.has(name) && !isOwn(name))
  return added.length === 0 ? some : new Set([...some, ...added])
}
