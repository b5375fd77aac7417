import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { LogPass } from './pass.ts';
import type { PassOptions } from './pass.ts';

async function read(...lines: string[]): Promise<LogPass> {
  const pass = new LogPass({} as PassOptions); // neither files nor quota: there is no artifact
  await pass.read(Readable.from([Buffer.from(lines.map((line) => `${line}\n`).join(''))]), () => undefined, () => undefined);
  return pass;
}

it('takes the receipt from the first frame alone', async () => {
  expect((await read('1 r|{"uid":1}', '2 r|{"uid":2}')).receipt).toEqual({ uid: 1 });
  // Whoever takes the launcher over comes later.
  expect((await read('1 o|hello', '2 r|{"uid":2}')).receipt).toBeUndefined();
});
