import assert from 'node:assert/strict'
import { Lane, type LaneEvents } from '../../src/proxy/lanes/lane.ts'
import { Learned } from '../../src/proxy/lanes/learned.ts'
import type { LaneClient, LaneUnit } from '../../src/proxy/lanes/unit.ts'
import { UnitReader } from '../../src/proxy/lanes/unit-reader.ts'
import type { ServerConnection, SharedBy } from '../../src/proxy/server.ts'
import type { PooledSession } from '../../src/proxy/session/pooled-session.ts'
import { type Reported, ReportedValues } from '../../src/proxy/session/reported.ts'
import { ServerStatements, Statement } from '../../src/proxy/session/statements.ts'
import { frame, sync, writeBindText, writeExecute, writeParse, writeQuery } from '../../src/wire/messages.ts'

/** A server connection of which the test plays the server. */
export class PlayedServer {
  readonly statements = new ServerStatements()
  reported: Reported = new Map([['DateStyle', 'ISO, MDY']])
  unnamed: Statement | undefined
  unit = 0
  readonly unsentBytes = 0
  isSpoiled = false
  /** Each is to be called when its cancel request is delivered. */
  readonly cancels: (() => void)[] = []
  plansChanged = 0
  isShared = false
  stalls = 0
  /** Units that were counted, and those that only say how quick it is. */
  counted = 0
  noted = 0
  readonly tally = {
    countShared: () => this.counted++,
    noteShared: () => this.noted++,
    noteStall: () => this.stalls++,
  }
  #by: SharedBy | undefined

  share(by: SharedBy): void {
    this.#by = by
    this.isShared = true
  }

  unshare(): void {
    assert.ok(this.isShared, 'it is given back once')
    this.isShared = false
  }

  write(): boolean {
    return true
  }

  cancel(done: () => void): void {
    this.cancels.push(done)
  }

  noteParameter(body: Buffer): void {
    const [name = '', value = ''] = body.toString('latin1').split('\0')
    this.reported = new ReportedValues().with(this.reported, name, value)
  }

  notePlansChanged(): void {
    this.plansChanged++
  }

  pause(): void {}
  resume(): void {}

  destroy(): void {
    this.lose()
  }

  say(...messages: Buffer[]): void {
    this.#by?.onBytes(Buffer.concat(messages))
  }

  lose(): void {
    this.#by?.onLost('gone')
  }
}

/** A client that remembers what becomes of its unit. */
export class PlayedClient implements LaneClient {
  /** How often its unnamed statement was dropped. */
  dropped = 0
  readonly session = { dropUnnamed: () => this.dropped++ } as unknown as PooledSession
  readonly unsentBytes = 0
  told = Buffer.alloc(0)
  /** Answers that have ended. */
  ends = 0
  givenBack = 0
  torn = 0
  late: LaneUnit[] = []

  deliver(answer: Buffer, isLast: boolean): void {
    assert.equal(this.ends, 0, 'nothing comes behind an answer')
    this.told = Buffer.concat([this.told, answer])
    if (isLast) this.ends++
  }

  giveBack(): void {
    this.givenBack++
  }

  loseAnswer(): void {
    this.torn++
  }

  isForAnother(): boolean {
    return false
  }

  endOverdue(): void {}

  onLate(_lane: Lane, unit: LaneUnit): void {
    this.late.push(unit)
  }
}

/** A unit that is sent as it came, and one whose statement is prepared. */
export const plain = writeQuery('select 1')
export const prepared = Buffer.concat([
  writeParse('', 'select $1', []),
  writeBindText('', '', ['x']),
  writeExecute(''),
  sync,
])
const statement = new Statement(Buffer.from('select $1\0\0\0', 'latin1'))
const reader = new UnitReader()

/** A lane on a server that the test plays. */
export class PlayedLane {
  readonly server = new PlayedServer()
  readonly at: { nowMs: number }
  /** What it has told the lanes around it. */
  readonly log: string[] = []
  /** Units that count as answered. */
  answered = 0
  readonly lane: Lane

  constructor(at = { nowMs: 1000 }, events: Partial<LaneEvents> = {}) {
    this.at = at
    this.lane = new Lane(this.server as unknown as ServerConnection, {
      onDirty: () => undefined,
      onAbandoned: () => undefined,
      onAnswered: units => {
        this.answered += units
      },
      onDone: ({ server }) => {
        this.log.push('done')
        server.unshare()
      },
      onLost: () => this.log.push('lost'),
      onGivenBack: (reason, units) => units > 0 && this.log.push(`${reason} ${units}`),
      onBroken: (_, problem) => this.log.push(problem),
      nowMs: () => at.nowMs,
      ...events,
    })
  }

  submit(client: LaneClient, request = plain, learned = new Learned()): void {
    reader.read(request)
    const bound =
      request === prepared
        ? { statement, named: undefined, changedAt: 0, preparedMax: 10, values: undefined }
        : undefined
    this.lane.submit(client, request, reader, learned, bound, this.at.nowMs)
  }
}

// What the server says.

export const parseComplete = frame(0x31, Buffer.alloc(0))
export const bindComplete = frame(0x32, Buffer.alloc(0))
/** With one column of three letters. */
export const row = (text: string): Buffer => frame(0x44, Buffer.from(`\0\x01\0\0\0\x03${text}`))
export const ready = frame(0x5a, Buffer.from('I'))
/** From fields such as `SERROR\0VERROR\0C42P01\0Mno such table`. */
export const error = (fields: string): Buffer => frame(0x45, Buffer.from(`${fields}\0\0`))
