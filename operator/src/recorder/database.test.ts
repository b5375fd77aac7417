import { UnavailableError } from '@crucible/storage';
import { expect, it } from 'vitest';
import { systemClock } from '../kube/index.ts';
import { DatabaseHealth } from './database.ts';

/** How many outages there have been after one report, when the first probes fail. */
async function outages(failingProbes: number): Promise<number> {
  let probes = 0;
  const query = async (): Promise<never> => {
    probes += 1;
    if (probes <= failingProbes) throw new UnavailableError('away');
    return { rows: [], rowCount: 0 } as never;
  };
  const health = new DatabaseHealth({ query }, systemClock, () => 0);
  health.reportDown();
  expect(health.available).toBe(false);
  await health.whenAvailable(new AbortController().signal);
  expect([health.available, probes]).toEqual([true, failingProbes + 1]);
  return health.outages;
}

it('counts an outage once, and not a connection that broke', async () => {
  expect([await outages(0), await outages(1), await outages(3)]).toEqual([0, 1, 1]);
});
