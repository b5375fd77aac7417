import { readFile } from 'node:fs/promises';
import { KubeError } from './errors.ts';

export async function readToken(file: string): Promise<string> {
  const token = (await readFile(file, 'utf8')).trim();
  if (token === '') throw authError(`token file ${file} is empty`);
  return token;
}

export function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

export function authError(message: string): KubeError {
  return new KubeError({ code: 0, reason: 'AuthenticationFailed', message });
}
