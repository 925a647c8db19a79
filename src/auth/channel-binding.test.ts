import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { serverEndPoint } from './channel-binding.ts'

/** Self-signed certificates for nobody, and the hashes that OpenSSL makes of them. */
const certificates = [
  {
    name: 'ecdsa-with-SHA1',
    der: `
      MIIBdDCCARygAwIBAgIUOn58W5w3fPN/dSWnm3aNgOafWcAwCQYHKoZIzj0EATARMQ8wDQYDVQQDDAZwZ2hlcmQwHhcNMjYx
      MTIxMjEyODUxWhcNMzYxMTE4MjEyODUxWjARMQ8wDQYDVQQDDAZwZ2hlcmQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQZ
      qSOXdgatwM2BrHVaum6EHJnnxQmOkiVGyWTpwZwJMu+fUL/btIRhlTy1gxS28GchYZTY4BowNKmkPo+kmYNFo1MwUTAdBgNV
      HQ4EFgQUtXGN0biInsqWHVJXLIPfJBCPqgowHwYDVR0jBBgwFoAUtXGN0biInsqWHVJXLIPfJBCPqgowDwYDVR0TAQH/BAUw
      AwEB/zAJBgcqhkjOPQQBA0cAMEQCIEz6LZlhZJAIL7z/qALP231Esfp8HCCAOU7BgPM38nuRAiBBqoCSCor+7EFMeHg6W3pj
      pdY0I5qgAEcfkjvzoPniiQ==`,
    endPoint: 'ef07864fb8ee0b1806915736566d09dd262b9e094de741f7670ae153061af46e',
  },
  {
    name: 'ecdsa-with-SHA256',
    der: `
      MIIBdzCCAR2gAwIBAgIUXTAo/MykyjMyPhTVisEcazZHIOQwCgYIKoZIzj0EAwIwETEPMA0GA1UEAwwGcGdoZXJkMB4XDTI2
      MTEyMTIxMjg1MVoXDTM2MTExODIxMjg1MVowETEPMA0GA1UEAwwGcGdoZXJkMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
      Gakjl3YGrcDNgax1WrpuhByZ58UJjpIlRslk6cGcCTLvn1C/27SEYZU8tYMUtvBnIWGU2OAaMDSppD6PpJmDRaNTMFEwHQYD
      VR0OBBYEFLVxjdG4iJ7Klh1SVyyD3yQQj6oKMB8GA1UdIwQYMBaAFLVxjdG4iJ7Klh1SVyyD3yQQj6oKMA8GA1UdEwEB/wQF
      MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAMsjOS6SQcootvAFFwN6OzhfAoBf9Fe9L5RopilpUu7zAiAtf+l/j003zud6WEgG
      sBKGiFo/efPn3ES+fQ8FWnYj6Q==`,
    endPoint: 'ef4781f51af9d4c7a08660830dae68779b9f7e87b98ec0fb40a4d47b927a5c8e',
  },
  {
    name: 'ecdsa-with-SHA384',
    der: `
      MIIBdzCCAR2gAwIBAgIUbgQEJ9UmH4Lwy4VUb239d5IKy5wwCgYIKoZIzj0EAwMwETEPMA0GA1UEAwwGcGdoZXJkMB4XDTI2
      MTEyMTIxMjg1MVoXDTM2MTExODIxMjg1MVowETEPMA0GA1UEAwwGcGdoZXJkMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
      Gakjl3YGrcDNgax1WrpuhByZ58UJjpIlRslk6cGcCTLvn1C/27SEYZU8tYMUtvBnIWGU2OAaMDSppD6PpJmDRaNTMFEwHQYD
      VR0OBBYEFLVxjdG4iJ7Klh1SVyyD3yQQj6oKMB8GA1UdIwQYMBaAFLVxjdG4iJ7Klh1SVyyD3yQQj6oKMA8GA1UdEwEB/wQF
      MAMBAf8wCgYIKoZIzj0EAwMDSAAwRQIhAKoa9qxhc8541sxsxb45D/7fMJdtc6fHMzVi+u15U4uzAiAV3qZqe5P4JDYHgrFD
      ObPJ7zWD0Z+TNDsAUiWOx16Ydg==`,
    endPoint:
      '761d0bc249c06920277cebcaefca6409af8e5592131b83ba60a994141030a733f79ee5013396a75f18fb677b7c9b9356',
  },
  {
    name: 'sha512WithRSAEncryption',
    der: `
      MIIB/jCCAWegAwIBAgIUJnSdn1RUsvoKwRgNpFuPvB583DcwDQYJKoZIhvcNAQENBQAwETEPMA0GA1UEAwwGcGdoZXJkMB4X
      DTI2MTEyMTIxMjg1MVoXDTM2MTExODIxMjg1MVowETEPMA0GA1UEAwwGcGdoZXJkMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCB
      iQKBgQDCKil7rNQuiHSmyxj2tqVoFmKgCNKv4qNj5QtjDZ9mQjgoMTpb5yHyW9jAtQsZw8jwaLumDFYoRc+I4r3jNRv/76gQ
      y4zWwbH+uAHGhjb4qupVCfbqERPb5ooI8tgj8w5GjjXPk0+VSx/zSobbCw6ji6FtArUp2JYtA8tauQQ+qwIDAQABo1MwUTAd
      BgNVHQ4EFgQUNGVO+gpkFJNttFGizZa429hft6MwHwYDVR0jBBgwFoAUNGVO+gpkFJNttFGizZa429hft6MwDwYDVR0TAQH/
      BAUwAwEB/zANBgkqhkiG9w0BAQ0FAAOBgQBEj080thnJ+9chAjoFtKvGPq9+lqKs98ufhEwYt3JfPdvtjnaZFkm/SOlctlFH
      7PLpTjeKc50YoAD6ox2/XC0OHIrkwwLKOWZnxzde1omDNWL+Olm2QvzircF+LzozNeVCZooSW5yvdKBkVjNdRaMIxOYSaT0K
      ONBsjBqqNcTkww==`,
    endPoint:
      'a0ddbebfee32810837c63e82c1cc18fd29e02b2c8b57ea949babc255f727fd3a9714a45f4050786a7ab53b895b3e12a6476678b82103298e2055103b51d8b199',
  },
  {
    name: 'RSASSA-PSS with SHA-384',
    der: `
      MIICZjCCAZugAwIBAgIUZ7e20Qs6ERdb8r1RYlPNMZowcGAwQQYJKoZIhvcNAQEKMDSgDzANBglghkgBZQMEAgIFAKEcMBoG
      CSqGSIb3DQEBCDANBglghkgBZQMEAgIFAKIDAgFOMBExDzANBgNVBAMMBnBnaGVyZDAeFw0yNjExMjEyMTI4NTFaFw0zNjEx
      MTgyMTI4NTFaMBExDzANBgNVBAMMBnBnaGVyZDCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkCgYEAwiope6zULoh0pssY9ral
      aBZioAjSr+KjY+ULYw2fZkI4KDE6W+ch8lvYwLULGcPI8Gi7pgxWKEXPiOK94zUb/++oEMuM1sGx/rgBxoY2+KrqVQn26hET
      2+aKCPLYI/MORo41z5NPlUsf80qG2wsOo4uhbQK1KdiWLQPLWrkEPqsCAwEAAaNTMFEwHQYDVR0OBBYEFDRlTvoKZBSTbbRR
      os2WuNvYX7ejMB8GA1UdIwQYMBaAFDRlTvoKZBSTbbRRos2WuNvYX7ejMA8GA1UdEwEB/wQFMAMBAf8wQQYJKoZIhvcNAQEK
      MDSgDzANBglghkgBZQMEAgIFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgIFAKIDAgFOA4GBAAqPq47bb+zr9U4fikAT
      QbCnbWrs5ew3CsW3+UzAID5ezkxnjnukYF3ze3aNMIPpxwjWjkpG/wRqPS/eEpnp2fipmr/m3FEJNC5KAgI+hkHjL6ZErTlh
      kJH42bqxU6JZDBD1bNZo6k6oj9C084cqwwOjGk8LyyFP2jG0ushrJvWW`,
    endPoint:
      '3079d23e9a2fd16a4c11193ef7e8200fed68eb33c4a355b4a9d9ec3c976411fcfb28b67583dbe02a46107896dd4853f3',
  },
  {
    name: 'Ed25519',
    der: `
      MIIBNjCB6aADAgECAhRQJEPYllsE4dos/eiHuAcYjvUwZjAFBgMrZXAwETEPMA0GA1UEAwwGcGdoZXJkMB4XDTI2MTEyMTIx
      Mjg1MVoXDTM2MTExODIxMjg1MVowETEPMA0GA1UEAwwGcGdoZXJkMCowBQYDK2VwAyEAonzkhjYN6FxXTD/DpfVp9XDP0lth
      xeAoVey5SY/j+9ajUzBRMB0GA1UdDgQWBBR7QZ8lVO54Gs6fZzkKnpMELS6ttTAfBgNVHSMEGDAWgBR7QZ8lVO54Gs6fZzkK
      npMELS6ttTAPBgNVHRMBAf8EBTADAQH/MAUGAytlcANBALNfXR98KX9IQ09fZK82hq15GiMVdoLl/pM4EM+GqPvqJLelcltz
      Dmi6XkL+wfWV0YJSI3ufAg2Cllu8XvP96Ac=`,
    endPoint: undefined,
  },
]
const bytesOf = (der: string) => Buffer.from(der, 'base64')

for (const { name, der, endPoint } of certificates) {
  test(`a certificate signed with ${name}`, () => {
    assert.equal(serverEndPoint(bytesOf(der))?.toString('hex'), endPoint)
  })
}

test('a certificate that is cut off anywhere before its signature is none', () => {
  for (const { der } of certificates) {
    const bytes = bytesOf(der)
    for (let length = 0; length < bytes.length; length++) {
      assert.equal(serverEndPoint(bytes.subarray(0, length)), undefined)
    }
  }
})

test('any bytes give an answer and no exception', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), bytes => {
      serverEndPoint(Buffer.from(bytes))
    }),
  )
  const good = bytesOf(certificates[1]!.der)
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), (at, value) => {
      const changed = Buffer.from(good)
      changed[at] = value
      serverEndPoint(changed)
    }),
  )
})
