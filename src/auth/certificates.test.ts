import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CertificateMapEntry, certificateFits, certificateMap, commonName } from './certificates.ts'

function mapOf(...entries: CertificateMapEntry[]) {
  const { map, problems } = certificateMap(entries, 'pgherd.yaml', 'auth.maps.m')
  assert.deepEqual(problems, [])
  return map
}

test('without a map the common name is the user', () => {
  assert.equal(certificateFits('ada', 'ada', undefined), true)
  assert.equal(certificateFits('ada', 'Ada', undefined), false)
  assert.equal(certificateFits('ada', 'bob', undefined), false)
})

test('a map says who a certificate may be, and nothing else is', () => {
  const map = mapOf({ certificate: 'ada', user: 'app' }, { certificate: 'ada', user: 'report' })
  assert.equal(certificateFits('ada', 'app', map), true)
  assert.equal(certificateFits('ada', 'report', map), true)
  assert.equal(certificateFits('ada', 'ada', map), false)
  assert.equal(certificateFits('bob', 'app', map), false)
  assert.equal(certificateFits('ada', 'ada', mapOf()), false)
})

test('an expression, what its group matched, and all', () => {
  const map = mapOf(
    { certificate: String.raw`/^(\w+)@example\.com$`, user: String.raw`\1` },
    { certificate: '/^root@', user: 'all' },
  )
  assert.equal(certificateFits('ada@example.com', 'ada', map), true)
  assert.equal(certificateFits('ada@example.com', 'bob', map), false)
  assert.equal(certificateFits('ada@example.com.evil', 'ada', map), false)
  assert.equal(certificateFits('root@anywhere', 'bob', map), true)
  assert.equal(certificateFits('root', 'bob', map), false)
})

test('what a group matched is taken as it is', () => {
  const map = mapOf({ certificate: '/^(.*)$', user: String.raw`\1` })
  assert.equal(certificateFits('$&', '$&', map), true)
})

test('an expression that is none is a problem with its place', () => {
  const entries = ['fine', '/(', '/[[:alpha:]]'].map(certificate => ({ certificate, user: 'all' }))
  const { map, problems } = certificateMap(entries, 'pgherd.yaml', 'auth.maps.m')
  assert.equal(map.length, 1)
  assert.deepEqual(
    problems.map(problem => problem.path),
    ['auth.maps.m[1]', 'auth.maps.m[2]'],
  )
})

test('a subject has exactly one common name or none that counts', () => {
  assert.equal(commonName({ CN: 'ada' }), 'ada')
  for (const subject of [undefined, {}, { CN: '' }, { CN: ['ada', 'bob'] }, { CN: 'ada\0.evil' }]) {
    assert.equal(commonName(subject), undefined)
  }
})
