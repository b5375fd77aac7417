import { homedir } from 'node:os';
import { join } from 'node:path';
import { SetupError, isExecutable } from './processes.ts';

/** The program that deploy/local/test-tools.sh puts into the build cache. */
export function schemathesis(): string {
  const cache = process.env['CRUCIBLE_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'crucible');
  const path = join(cache, 'schemathesis/bin/schemathesis');
  if (!isExecutable(path)) throw new SetupError(`no schemathesis at ${path}: \`make test-integration\` installs it`);
  return path;
}
