import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { sleep, systemClock } from './clock.ts';

const COPIES = 20;

// Sources of AbortSignal.any() hold it weakly; Node.js keeps it for as long as somebody listens to it. All waits of the
// recorder rest on that: if it ever changes, a follow would not end with its container, nor the recorder with its process.
it.each([0, 1, 2])('who listens to combined signals hears each of them, whatever has been collected (%i)', async (which) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const sources = Array.from({ length: 3 }, () => new AbortController());
  let heard = 0;
  const listen = (): void => {
    const [first, second, third] = sources.map(({ signal }) => signal);
    const combined = AbortSignal.any([AbortSignal.any([first!, second!]), third!]);
    combined.addEventListener('abort', () => (heard += 1), { once: true });
  };
  for (let copy = 0; copy < COPIES; copy += 1) listen();
  for (let round = 0; round < 10; round += 1) {
    await sleep(systemClock, 5);
    collect();
  }
  sources[which]!.abort();
  expect(heard).toBe(COPIES);
});
