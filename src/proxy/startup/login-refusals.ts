/** Why a login at the proxy is refused. Each has a counter. */
export const loginRefusals = [
  /** No access rule fits. */
  'no_rule',
  /** A rule with `reject` does. */
  'rejected',
  /** The password is not that of a user who may log in; unknown and expired users included. */
  'wrong_password',
  /** The certificate is not valid, missing, or another user's. */
  'certificate',
  /** The proxy takes encrypted connections only, or a password in clear only over TLS. */
  'unencrypted',
  /** The secret of the user could not be asked for. */
  'lookup_failed',
  /** What the client answered is against the rules of the exchange. */
  'malformed',
] as const

export type LoginRefusal = (typeof loginRefusals)[number]
