import { hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { EncryptJWT, jwtDecrypt } from 'jose';

/** What the cookie holds, readable by this process alone. */
export interface Session {
  readonly token: string;
  readonly csrf: string;
  readonly expiresAt: number;
}

export const SESSION_SECONDS = 8 * 3600;
export const CSRF_HEADER = 'x-csrf-token';
/** Browsers drop a cookie above this without a word. */
const MAX_COOKIE_BYTES = 4000;
const ENCRYPTION = { alg: 'dir', enc: 'A256GCM' } as const;

/** Sessions live in the browser's cookie, encrypted: nothing to store, and every replica with the same key reads them. */
export class SessionSealer {
  readonly #keys: readonly Uint8Array[];
  readonly #now: () => number;

  /** The first secret seals, all of them open: to change it, put the new one in front and drop the old one after 8 hours. */
  constructor(secrets: readonly string[], now: () => number) {
    const derive = (secret: string) => new Uint8Array(hkdfSync('sha256', secret, 'crucible', 'session', 32));
    this.#keys = (secrets.length > 0 ? secrets : [randomBytes(32).toString('hex')]).map(derive);
    this.#now = now;
  }

  /** Undefined: the token is too large for a cookie. */
  async seal(token: string, tokenExpiresAt: number | undefined): Promise<{ cookie: string; session: Session } | undefined> {
    const expiresAt = Math.min(this.#now() + SESSION_SECONDS * 1000, tokenExpiresAt ?? Infinity);
    const session = { token, csrf: randomBytes(24).toString('base64url'), expiresAt };
    const cookie = await new EncryptJWT({ t: token, c: session.csrf })
      .setProtectedHeader(ENCRYPTION)
      .setExpirationTime(Math.floor(expiresAt / 1000))
      .encrypt(this.#keys[0] as Uint8Array);
    return cookie.length > MAX_COOKIE_BYTES ? undefined : { cookie, session };
  }

  /** Undefined: not ours, changed, or over. */
  async open(cookie: string): Promise<Session | undefined> {
    for (const key of this.#keys) {
      try {
        const { payload } = await jwtDecrypt(cookie, key, {
          keyManagementAlgorithms: [ENCRYPTION.alg],
          contentEncryptionAlgorithms: [ENCRYPTION.enc],
          currentDate: new Date(this.#now()),
        });
        const { t, c, exp } = payload;
        if (typeof t === 'string' && typeof c === 'string' && exp !== undefined) return { token: t, csrf: c, expiresAt: exp * 1000 };
      } catch {
        // Perhaps the next key.
      }
    }
    return undefined;
  }
}

export function sameSecret(left: string, right: string): boolean {
  const [a, b] = [Buffer.from(left), Buffer.from(right)];
  return a.length === b.length && timingSafeEqual(a, b);
}
