import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Server as Code } from '../../wire/codes.ts'
import { frame, writeErrorResponse } from '../../wire/messages.ts'
import { farewellAt, isTermination } from './farewell.ts'

const parseComplete = frame(Code.ParseComplete, Buffer.alloc(0))
const fatal = writeErrorResponse({ severity: 'FATAL', code: '57P01', message: 'the server stops' })
const crash = frame(Code.NoticeResponse, Buffer.from('SWARNUNG\0VWARNING\0C57P02\0Mcrash\0\0'))
const error = writeErrorResponse({ severity: 'ERROR', code: '22012', message: 'division by zero' })

test('finds the last words of a server, whatever comes before', () => {
  assert.equal(farewellAt(fatal), 0)
  assert.equal(farewellAt(crash), 0)
  assert.equal(farewellAt(Buffer.concat([parseComplete, fatal])), parseComplete.length)
  assert.equal(farewellAt(error), -1)
  assert.equal(farewellAt(parseComplete), -1)
  assert.ok(isTermination(fatal))
  assert.ok(!isTermination(crash))
})

test('what rows hold, and what is not there as a whole, says nothing', () => {
  assert.equal(farewellAt(frame(Code.DataRow, Buffer.concat([Buffer.from([0, 1, 0, 0, 0, 99]), fatal]))), -1)
  assert.equal(farewellAt(fatal.subarray(0, fatal.length - 1)), -1)
  for (let bytes = 0; bytes < 6; bytes++) assert.equal(farewellAt(fatal.subarray(0, bytes)), -1)
  assert.equal(farewellAt(Buffer.from([0x5a, 0, 0, 0, 0, 1, 2])), -1)
})
