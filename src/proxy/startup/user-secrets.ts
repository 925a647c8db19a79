import { makeVerifier, mockVerifier, type ScramVerifier } from '../../auth/scram.ts'
import type { Secret } from '../../auth/secrets.ts'
import type { Clock } from '../../runtime/clock.ts'

/** Asks a server for the secret of a user; rejects when none could be asked. */
export type AskSecret = (user: string, database: string) => Promise<Secret | undefined>

export interface UserSecretsOptions {
  /** Of the users file. */
  known: ReadonlyMap<string, Secret | undefined>
  /** For users who are not in it; undefined: there are no others. */
  ask: AskSecret | undefined
  /** Makes up what an unknown user would have; the same in every worker. */
  mockSecret: Buffer
  clock: Clock
}

/** How long the answer of a server is believed: for so long a changed password does not count here yet. */
const answerMaxMs = 5000
/** Most users whose secrets or verifiers are kept; beyond that the oldest is forgotten. */
const keptMax = 10_000

/** The secrets of users, from the users file and from the servers. */
export class UserSecrets {
  /**
   * What a rule with `md5` asks most users for: whoever is not known is asked for it as well, so that the question
   * does not tell who is.
   */
  readonly usual: 'md5' | 'scram-sha-256'
  readonly #options: UserSecretsOptions
  readonly #answers = new Map<string, { secret: Promise<Secret | undefined>; untilMs: number }>()
  readonly #verifiers = new Map<string, { secret: Secret | undefined; verifier: Promise<ScramVerifier> }>()
  readonly #hasPlain: boolean

  constructor(options: UserSecretsOptions) {
    this.#options = options
    const secrets = [...options.known.values()].filter(secret => secret !== undefined)
    const scram = secrets.filter(({ kind }) => kind === 'scram').length
    this.usual = options.ask || scram * 2 >= secrets.length ? 'scram-sha-256' : 'md5'
    this.#hasPlain = secrets.some(({ kind }) => kind === 'plain')
  }

  /** Undefined for a user who is not known or has no secret. Rejects when no server could be asked. */
  async find(user: string, database: string): Promise<Secret | undefined> {
    const { ask, clock, known } = this.#options
    if (known.has(user) || !ask) return known.get(user)
    const kept = this.#answers.get(user)
    if (kept && clock.nowMs() < kept.untilMs) return await kept.secret
    const secret = ask(user, database)
    keep(this.#answers, user, { secret, untilMs: clock.nowMs() + answerMaxMs })
    secret.catch(() => this.forget(user))
    return await secret
  }

  /** What the users file says of a user, without asking anybody. */
  inFile(user: string): Secret | undefined {
    return this.#options.known.get(user)
  }

  /** What an unknown user's password is compared with, at the cost that most users' have. It never counts. */
  mock(user: string): Secret {
    if (this.usual === 'md5') return { kind: 'plain', password: '' }
    return { kind: 'scram', verifier: mockVerifier(this.#options.mockSecret, user) }
  }

  /** The next login asks anew: after a failed one, whoever it was, as the time it takes must not tell who exists. */
  forget(user: string): void {
    this.#answers.delete(user)
  }

  /**
   * What SCRAM is done with; undefined when it has to fail. Hashing a plain password takes milliseconds the first
   * time, so that where there are such, an unknown user takes them as well.
   */
  async verifier(user: string, secret: Secret | undefined): Promise<ScramVerifier | undefined> {
    if (secret?.kind === 'scram') return secret.verifier
    if (!this.#hasPlain && secret?.kind !== 'plain') return undefined
    let kept = this.#verifiers.get(user)
    if (!kept || kept.secret !== secret) {
      const { salt } = mockVerifier(this.#options.mockSecret, user)
      kept = { secret, verifier: makeVerifier(secret?.kind === 'plain' ? secret.password : '', salt) }
      keep(this.#verifiers, user, kept)
    }
    const verifier = await kept.verifier
    return secret?.kind === 'plain' ? verifier : undefined
  }
}

function keep<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key)
  map.set(key, value)
  if (map.size > keptMax) map.delete(map.keys().next().value!)
}
