import type { EvaluationSuiteStatus } from '@crucible/crds';
import { inTestdata } from '../evaluation/testing/gitops.ts';
import { NOW, settings } from '../evaluation/testing/builders.ts';
import { observedStatus } from '../evaluation/status.ts';
import { plan } from './plan.ts';
import { buildStatus } from './status.ts';
import { ended, open, suiteSnapshot } from './testing/builders.ts';
import type { SnapshotOptions } from './testing/builders.ts';

// Suites in every phase.

const FRESH: EvaluationSuiteStatus = { observedGeneration: -1 };
const refusal = { admitted: false, reason: 'RuntimeNotFound', message: 'There is none.' } as const;
const obstacle = { reason: 'QuotaExceeded', message: 'The quota leaves no room.' };

function seen(options: SnapshotOptions): { status: EvaluationSuiteStatus } {
  const { view } = plan(suiteSnapshot(options), NOW, settings());
  return { ...suiteSnapshot(options).raw, status: buildStatus(view!, 1, FRESH, NOW) };
}
const patched = (status: EvaluationSuiteStatus): object => suiteSnapshot({ metadata: { generation: 2 }, status }).raw;
const done = (): EvaluationSuiteStatus => seen({ runs: [ended('Passed')] }).status;

const OBJECTS: Record<string, () => object> = {
  'suite-new': () => suiteSnapshot({ status: FRESH }).raw,
  'suite-record-away': () => seen({ record: 'unavailable' }),
  'suite-refused': () => seen({ record: 'none', changes: { refusal } }),
  'suite-pending': () => seen({ record: 'none' }),
  'suite-running': () => seen({ runs: [open()] }),
  'suite-held-up': () => seen({ spec: { samples: 2 }, runs: [open()], changes: { obstacle } }),
  'suite-cancelling': () => seen({ spec: { cancel: true }, runs: [open()] }),
  'suite-succeeded': () => seen({ runs: [ended('Passed')] }),
  'suite-failed': () => seen({ runs: [ended('Failed')] }),
  'suite-failed-fast': () => seen({ spec: { samples: 2, failFast: true }, runs: [ended('Failed')] }),
  'suite-cancelled': () => seen({ spec: { cancel: true } }),
  'suite-finished-patched': () => patched(done()),
  'suite-finished-observed': () => patched(observedStatus(done(), 2)),
};

inTestdata(OBJECTS, (name) => name.startsWith('suite-'));
