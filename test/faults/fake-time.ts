import { accessSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError } from '../integration/processes.ts';

// libfaketime, of Debian's package faketime: a process whose wall clock is read from a file; its monotonic clock goes on.

const LIB = '/usr/lib';
const NAME = 'faketime/libfaketimeMT.so.1';

/** The environment of a process that takes its offset from the file, anew at each look. */
export function fakeTime(file: string): Record<string, string> {
  const library = readdirSync(LIB)
    .map((folder) => join(LIB, folder, NAME))
    .find((path) => exists(path));
  if (library === undefined) throw new SetupError('no libfaketime found: apt-get install faketime');
  return { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' };
}

function exists(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
