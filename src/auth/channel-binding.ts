import { createHash } from 'node:crypto'

/**
 * The channel binding `tls-server-end-point` (RFC 5929, section 4.1): a hash of the server's certificate, made with
 * the hash function of the certificate's own signature, or with SHA-256 where that is MD5 or SHA-1.
 *
 * Returns undefined when the signature has no single hash function (Ed25519) or is not known; SCRAM then goes
 * without channel binding. `certificate` is DER. Node tells the signature algorithm of a certificate only since
 * version 24, hence the few lines of DER here (X.690).
 */
export function serverEndPoint(certificate: Buffer): Buffer | undefined {
  const hash = signatureHash(certificate)
  return hash === undefined ? undefined : createHash(hash).update(certificate).digest()
}

/** Object identifiers as they are encoded, in hex. */
const signatureHashes = new Map([
  ['2a864886f70d010104', 'sha256'], // md5WithRSAEncryption
  ['2a864886f70d010105', 'sha256'], // sha1WithRSAEncryption
  ['2a864886f70d01010b', 'sha256'], // sha256WithRSAEncryption
  ['2a864886f70d01010c', 'sha384'], // sha384WithRSAEncryption
  ['2a864886f70d01010d', 'sha512'], // sha512WithRSAEncryption
  ['2a864886f70d01010e', 'sha224'], // sha224WithRSAEncryption
  ['2a8648ce3d0401', 'sha256'], // ecdsa-with-SHA1
  ['2a8648ce3d040301', 'sha224'], // ecdsa-with-SHA224
  ['2a8648ce3d040302', 'sha256'], // ecdsa-with-SHA256
  ['2a8648ce3d040303', 'sha384'], // ecdsa-with-SHA384
  ['2a8648ce3d040304', 'sha512'], // ecdsa-with-SHA512
])
const rsaPss = '2a864886f70d01010a'
const pssHashes = new Map([
  ['2b0e03021a', 'sha256'], // sha1
  ['608648016503040201', 'sha256'],
  ['608648016503040202', 'sha384'],
  ['608648016503040203', 'sha512'],
  ['608648016503040204', 'sha224'],
])

const tag = { sequence: 0x30, objectIdentifier: 0x06, context0: 0xa0 }

/** Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature } (RFC 5280, section 4.1). */
function signatureHash(der: Buffer): string | undefined {
  const [certificate] = elements(der)
  if (certificate?.tag !== tag.sequence) return undefined
  const algorithm = elements(certificate.content)[1]
  if (algorithm?.tag !== tag.sequence) return undefined
  const [identifier, parameters] = elements(algorithm.content)
  if (identifier?.tag !== tag.objectIdentifier) return undefined
  const name = identifier.content.toString('hex')
  return name === rsaPss ? pssHash(parameters) : signatureHashes.get(name)
}

/** RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0] AlgorithmIdentifier DEFAULT sha1, ... } (RFC 4055). */
function pssHash(parameters: Element | undefined): string | undefined {
  if (parameters?.tag !== tag.sequence) return undefined
  const [first] = elements(parameters.content)
  if (first?.tag !== tag.context0) return 'sha256'
  const [algorithm] = elements(first.content)
  const [identifier] = elements(algorithm?.content ?? Buffer.alloc(0))
  return identifier && pssHashes.get(identifier.content.toString('hex'))
}

interface Element {
  tag: number
  content: Buffer
}

/** The elements of a DER encoding, up to the first that is broken. */
function elements(der: Buffer): Element[] {
  const found: Element[] = []
  let at = 0
  while (at + 2 <= der.length) {
    let lengthBytes = 0
    let length = der[at + 1]!
    if (length >= 0x80) {
      lengthBytes = length & 0x7f
      if (lengthBytes === 0 || lengthBytes > 4 || at + 2 + lengthBytes > der.length) break
      length = der.readUIntBE(at + 2, lengthBytes)
    }
    const start = at + 2 + lengthBytes
    if (start + length > der.length) break
    found.push({ tag: der[at]!, content: der.subarray(start, start + length) })
    at = start + length
  }
  return found
}
