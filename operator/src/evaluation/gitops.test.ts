import type { EvaluationSpec, EvaluationStatus } from '@crucible/crds';
import { plan } from './plan.ts';
import type { Snapshot } from './snapshot.ts';
import { buildStatus, observedStatus } from './status.ts';
import { NOW, attempt, launched, output, pod, rawEvaluation, record, settings, snapshot } from './testing/builders.ts';
import { inTestdata } from './testing/gitops.ts';

// Evaluations in every phase.

const FRESH: EvaluationStatus = { observedGeneration: -1 };

function seen(subject: Snapshot): object {
  const { view } = plan(subject, NOW, settings());
  return { ...subject.raw, status: buildStatus(view!, 1, FRESH, NOW) };
}
const over = (exitCode: number, spec: Partial<EvaluationSpec> = {}, scored?: Snapshot['scored']): Snapshot =>
  launched({
    spec,
    pod: pod().ended(exitCode).build(),
    output: output(),
    record: { evaluation: record(), attempts: [attempt({ state: 'running' })] },
    scored,
  });
const expectation: Partial<EvaluationSpec> = { expect: { stdout: { contains: 'bye' } } };
const missed = { attempt: 1, score: { passed: false, reason: 'NotFound', message: 'stdout does not contain "bye".' } };
const patched = (generation: number, status: object): object => ({
  ...rawEvaluation({ priority: 7 }, { metadata: { generation } }),
  status,
});
const done = () => (seen(over(0)) as { status: EvaluationStatus }).status;
const finalized = {
  state: 'finalized',
  finalizedAt: new Date(NOW - 1000),
  verdict: { class: 'Evicted', attributableTo: 'Infrastructure', confidence: 'Confirmed', message: 'm', evidence: [] },
} as const;

const OBJECTS: Record<string, () => object> = {
  new: () => ({ ...rawEvaluation(), status: FRESH }),
  queued: () => seen(snapshot({ turn: false, heldBack: 'NamespaceLimit' })),
  'queued-paused': () => seen(snapshot({ paused: 'Crucible is paused: new nodes' })),
  'queued-kueue': () => seen(launched({ spec: { queue: 'team-a' }, job: { apiVersion: 'batch/v1', kind: 'Job', metadata: { uid: 'j' }, spec: { suspend: true } } })),
  'queued-retry': () => seen(snapshot({ spec: { retry: { limit: 1 } }, record: { evaluation: record(), attempts: [attempt(finalized)] } })),
  'record-away': () => seen(snapshot({ record: 'unavailable' })),
  refused: () => seen(snapshot({ spec: { runtime: 'cobol' } })),
  starting: () => seen(launched({ pod: pod().scheduled().build() })),
  running: () => seen(launched({ pod: pod().running().build() })),
  capturing: () => seen(launched({ pod: pod().ended(0).build() })),
  succeeded: () => seen(over(0)),
  'succeeded-not-passed': () => seen(over(0, expectation, missed)),
  failed: () => seen(over(3)),
  cancelled: () => seen(snapshot({ spec: { cancel: true } })),
  'finished-patched': () => patched(2, done()),
  'finished-observed': () => patched(2, observedStatus(done(), 2)),
  deleting: () => ({ ...rawEvaluation({}, { metadata: { deletionTimestamp: '2026-01-01T12:00:00Z', finalizers: ['crucible.dev/capture'] } }), status: done() }),
};

inTestdata(OBJECTS, (name) => !/^(suite|runtime)-/.test(name));
