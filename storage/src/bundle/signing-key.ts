import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { StorageError } from '../errors.ts';
import { keyIdOf } from './verify-bundle.ts';

/** The installation's key. The private half never leaves the object. */
export interface SigningKey {
  /** sha256 (hex) of the public key as DER. */
  readonly keyId: string;
  /** PEM, for whoever verifies. */
  readonly publicKey: string;
  /** Ed25519, 64 bytes. */
  sign(message: Uint8Array): Buffer;
}

/** What was wrong with the key, without anything of it. */
export class SigningKeyError extends StorageError {}

/** Reads an Ed25519 private key (PEM, PKCS #8). Throws SigningKeyError with what to do. */
export async function openSigningKey(path: string): Promise<SigningKey> {
  let pem: string;
  try {
    pem = await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new SigningKeyError(`the signing key cannot be read from ${path}: ${code}`);
  }
  return parseSigningKey(pem, path);
}

export function parseSigningKey(pem: string, from: string): SigningKey {
  const remedy = '`openssl genpkey -algorithm ed25519` makes one';
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw new SigningKeyError(`${from} does not hold a private key in PEM without a passphrase: ${remedy}`);
  }
  if (key.asymmetricKeyType !== 'ed25519') throw new SigningKeyError(`${from} holds a key of type ${key.asymmetricKeyType}, not ed25519: ${remedy}`);
  const publicKey = createPublicKey(key);
  return {
    keyId: keyIdOf(publicKey),
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    sign: (message) => sign(null, message, key),
  };
}
