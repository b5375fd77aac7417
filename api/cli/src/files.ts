import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CliError } from './errors.ts';

/** Makes the folder and those below it, one after the other: none of them may be a link that leads elsewhere. */
export async function folderFor(root: string, segments: readonly string[]): Promise<string> {
  await mkdir(root, { recursive: true });
  let folder = root;
  for (const segment of segments.slice(0, -1)) {
    folder = join(folder, segment);
    await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    if (!(await lstat(folder)).isDirectory()) throw new CliError(`${folder} is in the way: a folder is needed there`);
  }
  return folder;
}

/** Whether there is something of that name already, a broken link included. */
export const exists = async (path: string): Promise<boolean> =>
  await lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );

/** All of it or nothing: under another name until `check` has not thrown. Never through a link, never executable. */
export async function writeWhole(
  path: string,
  body: AsyncIterable<Uint8Array>,
  check: (written: number, temporary: string) => void | Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.part`;
  const file = await open(
    temporary,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o644,
  );
  try {
    let written = 0;
    for await (const data of body) {
      await file.writeFile(data);
      written += data.length;
    }
    await file.sync();
    await file.close();
    await check(written, temporary);
    await rename(temporary, path);
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
}

const TRIES = 3;

/** Once more when the connection broke off in the middle (TypeError, as fetch has it): nothing has been written by then. */
export async function persistently<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      if (tries === TRIES) throw new CliError(`the connection broke off ${TRIES} times in the middle: try again`);
    }
  }
}
