import { type CancelKeys, type KeyOwner, readSecret } from './cancels.ts'

export interface CancelDeskOptions<Owner extends Cancellable> {
  keys: CancelKeys<Owner>
  /** Those that found a client whose server had to be asked, and those that no worker knew. */
  counters: { cancelsForwarded: number; cancelsUnknown: number }
  /** Whether the key is that of somebody here who is no client, whose command is cancelled then. */
  cancelOther: (processId: number, secret: Buffer) => boolean
  /** Asks the other workers, and with `isPassedOn` no other proxies; `onAnswer` is to be called with this number. */
  askOthers: (processId: number, secret: Buffer, isPassedOn: boolean, request: number) => void
}

/** Whose command may be cancelled by whoever has its key. */
export interface Cancellable extends KeyOwner {
  /** Returns whether a server was asked; `done` is called when it was, or need not be. */
  cancel(done: () => void): boolean
}

/** Takes cancel requests: those that come to this worker, and those that others do not know the key of. */
export class CancelDesk<Owner extends Cancellable> {
  readonly #options: CancelDeskOptions<Owner>
  /** Requests that the others are asked about, by number. */
  readonly #asked = new Map<number, () => void>()
  #requests = 0

  constructor(options: CancelDeskOptions<Owner>) {
    this.#options = options
  }

  /**
   * One that came here, with the secret as it was sent. A key that is not known here may be another worker's, or another
   * proxy's.
   */
  take(processId: number, sent: Buffer, done: () => void): void {
    const { isPassedOn, secret } = readSecret(sent)
    this.cancel(processId, secret, found => {
      if (found) return done()
      const request = ++this.#requests
      this.#asked.set(request, done)
      this.#options.askOthers(processId, secret, isPassedOn, request)
    })
  }

  /** Cancels what runs for the owner of a key; `done` is told whether there is one here. */
  cancel(processId: number, secret: Buffer, done: (found: boolean) => void): void {
    const { cancelOther, counters, keys } = this.#options
    const owner = keys.find(processId, secret)
    if (!owner) return done(cancelOther(processId, secret))
    counters.cancelsForwarded += owner.cancel(() => done(true)) ? 1 : 0
  }

  /** The others were asked. */
  onAnswer(request: number, found: boolean): void {
    if (!found) this.#options.counters.cancelsUnknown++
    this.#asked.get(request)?.()
    this.#asked.delete(request)
  }
}
