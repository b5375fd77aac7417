import { describe, expect, it } from 'vitest';
import { admit } from './admission.ts';
import { kueueQueue, resumedAt, stoppedByKueue } from './kueue.ts';
import type { Workload } from './kueue.ts';
import { plan } from './plan.ts';
import { NOW, at, evaluation, job, launched, output, pod, record, attempt, settings, snapshot } from './testing/builders.ts';

const workload = (conditions: [string, string, string, string][] = [], more: Partial<Workload> = {}): Workload => ({
  apiVersion: 'kueue.x-k8s.io/v1beta1',
  kind: 'Workload',
  metadata: { name: 'job-hello', namespace: 'evals' },
  ...more,
  status: {
    conditions: conditions.map(([type, status, reason, message]) => ({ type, status, reason, message, lastTransitionTime: at(-5) })),
    ...more.status,
  },
});
const suspended = (changes: object = {}) => ({ ...job({ status: {} }), spec: { suspend: true }, ...changes });

describe('kueueQueue', () => {
  it.each<[string, Workload | undefined, string, RegExp]>([
    ['no Workload', undefined, 'KueueNoWorkload', /LocalQueue "team-a"/],
    ['a fresh one', workload(), 'KueuePending', /Waits for quota/],
    ['no quota', workload([['QuotaReserved', 'False', 'Pending', 'insufficient\n  quota']]), 'KueuePending', /^Kueue: insufficient quota$/],
    ['no queue', workload([['QuotaReserved', 'False', 'Inadmissible', "LocalQueue team-a doesn't exist"]]), 'KueueInadmissible', /doesn't exist/],
    ['evicted', workload([['QuotaReserved', 'False', 'Pending', 'x'], ['Evicted', 'True', 'PodsReadyTimeout', 'too slow']]), 'KueuePodsReadyTimeout', /too slow/],
    [
      'an admission check',
      workload([['QuotaReserved', 'True', 'QuotaReserved', '']], { status: { conditions: [{ type: 'QuotaReserved', status: 'True' }], admissionChecks: [{ name: 'prov', state: 'Pending', message: 'no nodes' }] } }),
      'KueueAdmissionChecks',
      /prov is Pending. no nodes/,
    ],
    ['deactivated', workload([['Evicted', 'True', 'Deactivated', 'by an administrator']], { spec: { active: false } }), 'KueueDeactivated', /administrator/],
    ['endless words', workload([['QuotaReserved', 'False', 'R'.repeat(200), 'm'.repeat(9000)]]), `Kueue${'R'.repeat(59)}`, /^.{512}$/],
  ])('%s', (_, subject, reason, message) => {
    const view = kueueQueue(subject, 'team-a');
    expect(view.reason).toBe(reason);
    expect(view.message).toMatch(message);
  });
});

describe('a suspended Job', () => {
  const spec = { queue: 'team-a' };
  it('is not made while too much output is not stored yet, although it takes no place', () => {
    const waits = plan(snapshot({ spec, backlogged: true, turn: false }), NOW, settings());
    expect(waits).toMatchObject({ turn: 'release', requeueAfterSeconds: 5, view: { phase: 'Queued', queue: { reason: 'CaptureBacklog' } } });
    expect(waits.actions.map(({ type }) => type)).toEqual(['recordEvaluation']);
    const goesOn = plan(snapshot({ spec, turn: false }), NOW, settings());
    expect(goesOn.actions.map(({ type }) => type)).toContain('launch');
  });

  it('waits as Queued without a place, however long', () => {
    const subject = launched({ spec, job: suspended({ metadata: { ...job().metadata, creationTimestamp: at(-90_000) } }) });
    expect(plan(subject, NOW, settings())).toMatchObject({
      view: { phase: 'Queued', queue: { reason: 'KueueNoWorkload' }, started: { reason: 'Suspended' } },
      turn: 'release',
    });
  });
  it('counts start-up from the moment it was resumed', () => {
    const resumed = { type: 'Suspended', status: 'False', lastTransitionTime: at(-20) };
    expect(resumedAt(job({ status: { conditions: [resumed] } }))).toBe(at(-20));
    expect(resumedAt(job())).toBe(at(-50));
  });
  it('is withdrawn when cancelled', () => {
    const { actions } = plan(launched({ spec: { ...spec, cancel: true }, job: suspended() }), NOW, settings());
    expect(actions.map(({ type }) => type)).toEqual(['recordEnding', 'withdraw']);
  });
});

describe('stopped by Kueue', () => {
  const evicted = workload([['Evicted', 'True', 'Preempted', 'for another'], ['Preempted', 'True', 'InClusterQueue', 'for another']]);
  const noted = stoppedByKueue(evicted);
  const deleted = { deletionTimestamp: at(-5), deletionGracePeriodSeconds: 10 };
  const rows = { evaluation: record(), attempts: [attempt({ ending: noted })] };

  it('is noted before anything else is decided, once', () => {
    const subject = launched({ spec: { queue: 'q' }, job: suspended(), pod: pod().running().meta(deleted).build(), workload: evicted });
    expect(plan(subject, NOW, settings()).actions).toMatchObject([{ type: 'recordEnding', verdict: { class: 'Preempted' } }]);
    expect(plan({ ...subject, record: rows }, NOW, settings()).actions.map(({ type }) => type)).not.toContain('recordEnding');
  });
  it('is the verdict, also when Kueue has started the Job again, and the Job goes', () => {
    for (const again of [suspended(), job()]) {
      const ended = pod().ended(143, { to: -4 }).meta(deleted).build();
      const subject = launched({ spec: { queue: 'q' }, job: again, pod: ended, output: output(), record: rows });
      const { actions, view } = plan(subject, NOW, settings());
      expect(view?.end?.verdict).toMatchObject({ class: 'Preempted', attributableTo: 'Infrastructure' });
      expect(actions.map(({ type }) => type)).toContain('deleteJob');
    }
  });
  it('for Kueue’s other reasons counts as Evicted, and without a Workload as probably Preempted', () => {
    expect(stoppedByKueue(workload([['Evicted', 'True', 'ClusterQueueStopped', 'stop']]))).toMatchObject({ class: 'Evicted' });
    expect(stoppedByKueue(undefined)).toMatchObject({ class: 'Preempted', confidence: 'Probable' });
  });
});

it('an installation without Kueue refuses spec.queue, saying so', () => {
  const { cluster } = snapshot();
  const refused = admit(evaluation({ queue: 'team-a' }), cluster, settings({ kueue: false }));
  expect(refused).toMatchObject({ admitted: false, reason: 'KueueNotEnabled' });
  expect(admit(evaluation({ queue: 'team-a' }), cluster, settings()).admitted).toBe(true);
});
