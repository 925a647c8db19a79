import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { systemClock } from '../../src/runtime/clock.ts'

const run = promisify(execFile)

export interface Certificate {
  caFile: string
  certFile: string
  keyFile: string
}

/** A certificate authority of its own in a temporary folder, made with openssl. */
export class Authority {
  readonly caFile: string
  private readonly folder: string

  static async make(name: string): Promise<Authority> {
    const authority = new Authority(await mkdtemp(join(tmpdir(), 'pgherd-ca-')))
    const subject = ['-subj', `/CN=${name}`, '-days', '2']
    await authority.openssl(['req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.crt', ...subject])
    return authority
  }

  private constructor(folder: string) {
    this.folder = folder
    this.caFile = join(folder, 'ca.crt')
  }

  /** `names` as openssl writes them: `IP:127.0.0.1`, `DNS:etcd.internal`. */
  async issue(name: string, names: string): Promise<Certificate> {
    await writeFile(join(this.folder, 'extensions'), `subjectAltName=${names}\n`)
    await this.openssl([
      'req',
      ...newKey,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      `/CN=${name}`,
    ])
    await this.openssl([...signing, '-in', `${name}.csr`, '-out', `${name}.crt`])
    const [certFile, keyFile] = [join(this.folder, `${name}.crt`), join(this.folder, `${name}.key`)]
    return { caFile: this.caFile, certFile, keyFile }
  }

  /** One with the key of `certificate` that is good for `lifetimeMs` from now on, to the second. */
  async shorten(certificate: Certificate, name: string, lifetimeMs: number): Promise<Certificate> {
    await writeFile(join(this.folder, 'ca.conf'), caConfig)
    await writeFile(join(this.folder, 'index.txt'), '')
    const end = new Date(systemClock.wallMs() + lifetimeMs).toISOString().replace(/[-:T]|\.\d+/g, '')
    const request = ['-config', 'ca.conf', '-batch', '-notext', '-extfile', 'extensions']
    const times = ['-startdate', '20200101000000Z', '-enddate', end]
    await this.openssl(['ca', ...request, ...times, '-in', `${name}.csr`, '-out', `${name}.short.crt`])
    return { ...certificate, certFile: join(this.folder, `${name}.short.crt`) }
  }

  /** A copy under another name, to be renewed in place. */
  async install(certificate: Certificate, as: string): Promise<Certificate> {
    const [certFile, keyFile] = [join(this.folder, `${as}.crt`), join(this.folder, `${as}.key`)]
    await renew({ ...certificate, certFile, keyFile }, certificate)
    return { ...certificate, certFile, keyFile }
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true })
  }

  private async openssl(args: string[]): Promise<void> {
    await run('openssl', args, { cwd: this.folder })
  }
}

/** Puts `next` where `installed` is, as a renewal does. */
export async function renew(installed: Certificate, next: Certificate): Promise<void> {
  await copyFile(next.certFile, installed.certFile)
  await copyFile(next.keyFile, installed.keyFile)
}

/** What `openssl ca` needs to sign with dates of our own. */
const caConfig = `[ca]
default_ca = own
[own]
database = index.txt
serial = ca.srl
unique_subject = no
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = sha256
policy = names
[names]
commonName = supplied
`

const signing = 'x509 -req -days 2 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile extensions'.split(' ')
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
