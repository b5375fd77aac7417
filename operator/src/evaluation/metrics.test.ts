import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { DomainMetrics } from './metrics.ts';
import type { RawEvaluation } from './snapshot.ts';
import { NOW, rawEvaluation } from './testing/builders.ts';

const verdict = { class: 'Succeeded', message: '' } as const;

async function lines(registry: Registry, name: string): Promise<string[]> {
  return (await registry.metrics()).split('\n').filter((line) => line.startsWith(name) && !line.endsWith(' 0'));
}

it('measures the time in each phase, and forgets what is over or gone', async () => {
  const registry = new Registry();
  const metrics = new DomainMetrics(registry, () => undefined, () => []);
  let raw: RawEvaluation = rawEvaluation(); // created 60 s before NOW
  const write = (phase: 'Queued' | 'Starting' | 'Running' | 'Succeeded', seconds: number): void => {
    const status = { phase, ...(phase === 'Succeeded' && { verdict }) };
    metrics.statusWritten(raw, status, NOW + seconds * 1000);
    raw = { ...raw, status };
  };
  write('Queued', 0);
  write('Queued', 5);
  write('Starting', 10);
  write('Running', 12);
  write('Succeeded', 42);
  expect(await lines(registry, 'crucible_phase_seconds_sum')).toEqual([
    'crucible_phase_seconds_sum{phase="Queued"} 70',
    'crucible_phase_seconds_sum{phase="Starting"} 2',
    'crucible_phase_seconds_sum{phase="Running"} 30',
  ]);
  // Of one that somebody else began to write nothing is known but what comes.
  raw = { ...rawEvaluation({}, { metadata: { uid: 'other' } }), status: { phase: 'Running' } };
  write('Succeeded', 50);
  expect(await lines(registry, 'crucible_phase_seconds_sum{phase="Running"}')).toEqual(['crucible_phase_seconds_sum{phase="Running"} 30']);
});

it('counts what waits by reason, with fixed labels whatever Kueue says', async () => {
  const registry = new Registry();
  const reasons = ['NamespaceLimit', 'Paused', 'KueuePending', 'KueueWhatever', 'Unheard'];
  const all = reasons.map((reason) => ({ ...rawEvaluation(), status: { queue: { reason } } }));
  new DomainMetrics(registry, () => undefined, () => all);
  expect(await lines(registry, 'crucible_queue_depth{')).toEqual([
    'crucible_queue_depth{reason="NamespaceLimit"} 1',
    'crucible_queue_depth{reason="Paused"} 1',
    'crucible_queue_depth{reason="Kueue"} 2',
    'crucible_queue_depth{reason="Other"} 1',
  ]);
});
