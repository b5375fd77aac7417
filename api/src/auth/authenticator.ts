import { hash, randomBytes } from 'node:crypto';
import type { Cluster, Identity } from '../cluster.ts';
import { TtlCache } from './ttl-cache.ts';

/** Somebody whom the cluster knows. */
export interface Caller {
  /** For calls in their name. Never logged, never stored. */
  readonly token: string;
  readonly identity: Identity;
  /** The same person in every replica and for every token: what is counted for a caller is counted under it. */
  readonly who: string;
  /** Of the identity with its groups: answers for a caller are kept under it. */
  readonly key: string;
  /** Of the token, as far as it says so: milliseconds since the epoch. */
  readonly expiresAt: number | undefined;
}

type Known = Omit<Caller, 'token'>;

const MAX_TOKEN_BYTES = 16 * 1024;
const MAX_KNOWN = 10_000;
/** A token that was taken back works for this long still. */
const KNOWN_SECONDS = 10;
const UNKNOWN_SECONDS = 5;

export class Authenticator {
  readonly #cluster: Pick<Cluster, 'whoIs'>;
  readonly #now: () => number;
  readonly #cache: TtlCache<Known | undefined>;
  // A dump of the memory must not give away which tokens were seen.
  readonly #secret = randomBytes(32).toString('base64url');

  constructor(cluster: Pick<Cluster, 'whoIs'>, now: () => number) {
    this.#cluster = cluster;
    this.#now = now;
    this.#cache = new TtlCache(MAX_KNOWN, now);
  }

  /** Undefined: nobody. Throws KubeError while the API server cannot be asked. */
  async authenticate(token: string): Promise<Caller | undefined> {
    // Anything else cannot be a token, and must not get into a header.
    if (token.length > MAX_TOKEN_BYTES || !/^[\x21-\x7e]+$/.test(token)) return undefined;
    const expiresAt = expiryOf(token);
    if (expiresAt !== undefined && expiresAt <= this.#now()) return undefined;
    const left = expiresAt === undefined ? Infinity : (expiresAt - this.#now()) / 1000;
    const load = async (): Promise<Known | undefined> => {
      const identity = await this.#cluster.whoIs(token);
      return identity && { identity, who: whoIs(identity), key: this.#hash(JSON.stringify(identity)), expiresAt };
    };
    const secondsFor = (found: Known | undefined) => (found === undefined ? UNKNOWN_SECONDS : Math.min(KNOWN_SECONDS, left));
    const known = await this.#cache.get(this.#hash(token), load, secondsFor);
    return known && { ...known, token };
  }

  /** Whom a token belongs to, if that was asked a moment ago and it still holds. */
  known(token: string | undefined): Caller | undefined {
    if (token === undefined) return undefined;
    const known = this.#cache.peek(this.#hash(token));
    return known === undefined || (known.expiresAt ?? Infinity) <= this.#now() ? undefined : { ...known, token };
  }

  #hash(text: string): string {
    return hash('sha256', this.#secret + text, 'base64url');
  }
}

const whoIs = ({ username, uid }: Identity): string => hash('sha256', `${username}\n${uid}`, 'base64url');

/** What a JWT says of its own end. Not verified here: it can only make us believe the token for a shorter time. */
export function expiryOf(token: string): number | undefined {
  const [, payload, signature] = token.split('.');
  if (payload === undefined || signature === undefined) return undefined;
  try {
    const { exp } = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as { exp?: unknown };
    return typeof exp === 'number' && Number.isFinite(exp) ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}
