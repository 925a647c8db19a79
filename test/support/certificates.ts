import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

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

const signing = 'x509 -req -days 2 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile extensions'.split(' ')
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
