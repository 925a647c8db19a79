import assert from 'node:assert/strict'
import { test } from 'node:test'
import { frame, writeErrorResponse, writeParameterStatus } from '../../wire/messages.ts'
import { MessageReader } from '../../wire/reader.ts'
import { Owed } from './answers.ts'
import { ServerRelay } from './server-relay.ts'

const message = (code: string, body = ''): Buffer => frame(code.charCodeAt(0), Buffer.from(body))

function codesOf(bytes: Buffer): string {
  let codes = ''
  new MessageReader(1000).push(bytes, code => {
    codes += String.fromCharCode(code)
    return true
  })
  return codes
}

/** Feeds a stream in two pieces to a relay that owes `kinds`, and gives back what the client gets. */
function relayed(kinds: Owed[], stream: Buffer, place: number) {
  let ready = 0
  const parameters: string[] = []
  const relay = new ServerRelay({
    onParameter: body => parameters.push(body.toString()),
    onReady: () => ready++,
    onStatementsGone: () => undefined,
    onPlanChanged: () => undefined,
    onDeallocated: () => undefined,
  })
  for (const kind of kinds) relay.owed.push(kind)
  const first = relay.putIn()
  const got = [first, ...[stream.subarray(0, place), stream.subarray(place)].map(piece => relay.pass(piece))]
  return { codes: codesOf(Buffer.concat(got)), relay, ready, parameters }
}

test('passes everything on as it came, and knows when nothing is owed', () => {
  const stream = Buffer.concat([
    writeParameterStatus('a', 'b'),
    message('T', 'columns'),
    message('D', 'row'),
    message('C', 'SELECT 1\0'),
    message('Z', 'T'),
    message('1'),
    message('2'),
    message('n'),
    message('I'),
    message('Z', 'I'),
  ])
  const kinds = [Owed.Query, Owed.Parse, Owed.Bind, Owed.Describe, Owed.Execute, Owed.Sync]
  for (let place = 0; place <= stream.length; place++) {
    const { codes, relay, ready, parameters } = relayed(kinds, stream, place)
    assert.equal(codes, 'STDCZ12nIZ')
    assert.equal(relay.owed.isEmpty, true)
    assert.equal(relay.atBoundary, true)
    assert.equal(relay.status, 0x49)
    assert.equal(ready, 2)
    assert.deepEqual(parameters, ['a\0b\0'])
  }
})

test('leaves out answers to what the proxy has asked, puts in those to what it has not, at every split', () => {
  const kinds = [
    Owed.SkippedParse,
    Owed.OwnParse,
    Owed.Bind,
    Owed.SkippedParse,
    Owed.Describe,
    Owed.SkippedClose,
    Owed.Execute,
    Owed.OwnClose,
    Owed.Sync,
    Owed.SkippedParse,
    Owed.Sync,
  ]
  const stream = Buffer.concat([
    message('1'),
    message('2'),
    message('T', 'columns'),
    message('D', 'row'),
    message('C', 'SELECT 1\0'),
    message('3'),
    message('Z', 'I'),
    message('Z', 'I'),
  ])
  for (let place = 0; place <= stream.length; place++) {
    const { codes, relay } = relayed(kinds, stream, place)
    assert.equal(codes, '121T3DCZ1Z', `split at ${place}`)
    assert.equal(relay.owed.isEmpty, true)
  }
})

test('after an error nothing is put in for what was discarded', () => {
  const kinds = [Owed.Parse, Owed.SkippedParse, Owed.Execute, Owed.Sync, Owed.SkippedClose, Owed.Sync]
  const stream = Buffer.concat([message('E', 'SERROR\0\0'), message('Z', 'I'), message('Z', 'I')])
  for (let place = 0; place <= stream.length; place++) {
    assert.equal(relayed(kinds, stream, place).codes, 'EZ3Z', `split at ${place}`)
  }
})

test('what is put in waits for what comes before it', () => {
  const { relay } = relayed([Owed.Bind, Owed.SkippedParse], Buffer.alloc(0), 0)
  assert.equal(relay.putIn().length, 0)
  assert.equal(codesOf(relay.pass(message('2'))), '21')
})

test('the last words of a server that come behind a refused query are passed on', () => {
  const { relay } = relayed([], Buffer.alloc(0), 0)
  const error = (severity: 'ERROR' | 'FATAL', code: string, text: string): Buffer =>
    writeErrorResponse({ severity, code, message: text })
  relay.owed.push(Owed.RefusedQuery, { refusal: error('ERROR', '55000', 'refused'), refuses: '42601' })
  assert.match(relay.pass(error('ERROR', '42601', 'syntax')).toString(), /refused/)
  assert.match(relay.pass(error('FATAL', '57P01', 'terminating')).toString(), /terminating/)
})
