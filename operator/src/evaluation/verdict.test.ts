import { describe, expect, it } from 'vitest';
import type { Pod } from './objects.ts';
import { at, pod } from './testing/builders.ts';
import { exitOf, judge } from './verdict.ts';
import type { Ending } from './verdict.ts';

const ending = (subject: Pod | undefined, changes: Partial<Ending> = {}): Ending => ({
  pod: subject,
  cancelled: false,
  timeoutSeconds: 60,
  ...changes,
});
const failed = (reason: string, message = '') => pod().ended(137).status({ phase: 'Failed', reason, message });

// [what happened, the pod as the kubelet left it, other facts, class, attributableTo, confidence]
type Row = readonly [string, Pod | undefined, Partial<Ending>, string, string | undefined, string];

const limitHit = { summary: { pidsLimitHit: true } };

const ROWS: readonly Row[] = [
  ['the process limit', pod().ended(1).build(), limitHit, 'PidsExceeded', 'Code', 'Probable'],
  ['the process limit, then a signal', pod().ended(134).build(), limitHit, 'PidsExceeded', 'Code', 'Probable'],
  ['the process limit, and it coped', pod().ended(0).build(), limitHit, 'Succeeded', undefined, 'Confirmed'],
  ['the process limit, then cancelled', pod().ended(143).build(), { ...limitHit, cancelled: true }, 'Cancelled', 'User', 'Probable'],
  ['a full disk', pod().ended(1).build(), { summary: { diskFull: true } }, 'DiskExceeded', 'Code', 'Probable'],
  ['exit 0', pod().ended(0).build(), {}, 'Succeeded', undefined, 'Confirmed'],
  ['exit 1', pod().ended(1).build(), {}, 'NonZeroExit', 'Code', 'Confirmed'],
  ['exit 124 before its time is the program’s own', pod().ended(124).build(), {}, 'NonZeroExit', 'Code', 'Confirmed'],
  ['exit 125: perhaps the launcher, perhaps the code', pod().ended(125).build(), {}, 'NonZeroExit', 'Code', 'Probable'],
  ['exit 126', pod().ended(126).build(), {}, 'NonZeroExit', 'User', 'Probable'],
  ['exit 127', pod().ended(127).build(), {}, 'NonZeroExit', 'User', 'Probable'],
  ['128 + SIGSEGV', pod().ended(139).build(), {}, 'Signalled', 'Code', 'Probable'],
  ['128 + no signal', pod().ended(255).build(), {}, 'NonZeroExit', 'Code', 'Confirmed'],
  ['polite timeout', pod().ended(124, { from: -70, to: -10 }).build(), {}, 'TimedOut', 'Code', 'Confirmed'],
  ['killed after the timeout', pod().ended(137, { from: -75, to: -10 }).build(), {}, 'TimedOut', 'Code', 'Confirmed'],
  [
    'deadline after the timeout',
    failed('DeadlineExceeded').ended(137, { from: -80, to: -10 }).build(),
    {},
    'TimedOut',
    'Code',
    'Confirmed',
  ],
  [
    'exit 0 in the last second is no timeout',
    pod().ended(0, { from: -70, to: -10 }).build(),
    {},
    'Succeeded',
    undefined,
    'Confirmed',
  ],
  [
    'exit 1 in the last second is its own',
    pod().ended(1, { from: -70, to: -10 }).build(),
    {},
    'NonZeroExit',
    'Code',
    'Confirmed',
  ],
  [
    'exit 1 long after the timeout',
    pod().ended(1, { from: -90, to: -10 }).build(),
    {},
    'TimedOut',
    'Code',
    'Confirmed',
  ],
  ['OOM', pod().ended(137, { reason: 'OOMKilled' }).build(), {}, 'OutOfMemory', 'Code', 'Confirmed'],
  [
    'OOM of a cancelled run',
    pod().ended(137, { reason: 'OOMKilled' }).build(),
    { cancelled: true },
    'OutOfMemory',
    'Code',
    'Confirmed',
  ],
  [
    'OOM, and the pod was deleted since',
    pod()
      .ended(137, { reason: 'OOMKilled' })
      .meta({ deletionTimestamp: at(-5) })
      .build(),
    {},
    'OutOfMemory',
    'Code',
    'Confirmed',
  ],
  ['cancelled', failed('DeadlineExceeded').build(), { cancelled: true }, 'Cancelled', 'User', 'Confirmed'],
  [
    'cancelled, and the code answered SIGTERM with exit 0',
    pod().ended(0).status({ phase: 'Failed', reason: 'DeadlineExceeded' }).build(),
    { cancelled: true },
    'Cancelled',
    'User',
    'Confirmed',
  ],
  [
    'cancelled after it had ended by itself',
    pod().ended(0).build(),
    { cancelled: true },
    'Succeeded',
    undefined,
    'Confirmed',
  ],
  [
    'deadline although nobody asked',
    failed('DeadlineExceeded').build(),
    {},
    'InternalError',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'evicted for memory of the node',
    failed('Evicted', 'The node was low on resource: memory.').build(),
    {},
    'Evicted',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'evicted for its own disk',
    failed('Evicted', 'Pod ephemeral local storage usage exceeds the total limit of containers 64Mi.').build(),
    {},
    'DiskExceeded',
    'Code',
    'Confirmed',
  ],
  [
    'evicted for its own tmpfs',
    failed('Evicted', 'Usage of EmptyDir volume "work" exceeds the limit "64Mi".').build(),
    {},
    'DiskExceeded',
    'Code',
    'Confirmed',
  ],
  [
    'evicted because the node was short of disk',
    failed(
      'Evicted',
      'The node was low on resource: ephemeral-storage. Container sandbox was using 20Mi, which exceeds its request of 1Mi.',
    ).build(),
    {},
    'Evicted',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'drained',
    failed('').condition('DisruptionTarget', 'True', 'EvictionByEvictionAPI').build(),
    {},
    'Evicted',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'preempted',
    failed('').condition('DisruptionTarget', 'True', 'PreemptionByScheduler').build(),
    {},
    'Preempted',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'node lost, by taint',
    failed('').condition('DisruptionTarget', 'True', 'DeletionByTaintManager').build(),
    {},
    'NodeLost',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'node lost, container status unknown',
    pod().ended(137, { reason: 'ContainerStatusUnknown' }).build(),
    {},
    'NodeLost',
    'Infrastructure',
    'Probable',
  ],
  [
    'node lost, still said to be running',
    pod()
      .running()
      .meta({ deletionTimestamp: at(-300) })
      .build(),
    {},
    'NodeLost',
    'Infrastructure',
    'Probable',
  ],
  [
    'pod deleted by somebody',
    pod()
      .ended(143)
      .meta({ deletionTimestamp: at(-5) })
      .build(),
    {},
    'InternalError',
    'Infrastructure',
    'Probable',
  ],
  [
    'ended by itself, then deleted',
    pod()
      .ended(2)
      .meta({ deletionTimestamp: at(-5) })
      .build(),
    {},
    'NonZeroExit',
    'Code',
    'Confirmed',
  ],
  ['pod gone', undefined, {}, 'InternalError', 'Infrastructure', 'Probable'],
  ['pod gone after cancel', undefined, { cancelled: true }, 'Cancelled', 'User', 'Probable'],
  [
    'node shut down',
    failed('Terminated', 'Pod was terminated in response to imminent node shutdown.').build(),
    {},
    'Evicted',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'the launcher is not in the image',
    pod()
      .scheduled()
      .status({ phase: 'Failed' })
      .container({
        terminated: {
          exitCode: 128,
          reason: 'StartError',
          message: 'exec: no such file',
          startedAt: '1970-01-01T00:00:00Z',
          finishedAt: at(0),
        },
      })
      .build(),
    {},
    'InvalidImage',
    'User',
    'Confirmed',
  ],
  [
    'the node refused it',
    pod().status({ phase: 'Failed', reason: 'OutOfcpu', message: 'no' }).build(),
    {},
    'Unschedulable',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'never started within its deadline',
    pod().scheduled().status({ phase: 'Failed', reason: 'DeadlineExceeded' }).build(),
    {},
    'InternalError',
    'Infrastructure',
    'Confirmed',
  ],
  [
    'never started, cancelled',
    pod().scheduled().status({ phase: 'Failed', reason: 'DeadlineExceeded' }).build(),
    { cancelled: true },
    'Cancelled',
    'User',
    'Confirmed',
  ],
];

describe('judge', () => {
  it.each(ROWS)('%s', (_, subject, changes, kind, blame, confidence) => {
    const verdict = judge(ending(subject, changes));
    expect([verdict.class, verdict.attributableTo, verdict.confidence]).toEqual([kind, blame, confidence]);
    expect(verdict.message).toMatch(/[.]$/);
    expect(verdict.evidence!.length).toBeGreaterThan(0);
  });

  it('lets nothing that comes out of the sandbox take blame from the code, or say more than Probable', () => {
    for (const code of [1, 2, 125, 134, 137]) {
      for (const summary of [{ pidsLimitHit: true }, { diskFull: true }, { pidsLimitHit: 'yes' as never }])
        expect(judge(ending(pod().ended(code).build(), { summary })).attributableTo).toBe('Code');
    }
    const lost = pod().ended(137).status({ phase: 'Failed', reason: 'NodeLost' }).build();
    expect(judge(ending(lost, limitHit)).class).toBe('NodeLost');
  });

  it('lets no hint that comes out of the sandbox choose class or blame', () => {
    for (const code of [0, 1, 125, 137]) {
      const honest = judge(ending(pod().ended(code).build()));
      const forged = judge(
        ending(pod().ended(code).build(), { summary: { error: 'node exploded, please retry for free' } }),
      );
      expect([forged.class, forged.attributableTo, forged.confidence]).toEqual([
        honest.class,
        honest.attributableTo,
        honest.confidence,
      ]);
    }
  });

  it('keeps evidence small, whatever Kubernetes says', () => {
    const verdict = judge(
      ending(
        pod()
          .ended(137)
          .status({ reason: 'Evicted', message: 'x'.repeat(5000) })
          .build(),
      ),
    );
    expect(verdict.evidence!.every(({ detail }) => detail.length <= 256)).toBe(true);
  });
});

describe('exitOf', () => {
  it('names signals, and says nothing of a container that never ran', () => {
    expect(exitOf(pod().ended(139).build())).toEqual({ exitCode: 139, signal: 'SIGSEGV' });
    expect(exitOf(pod().ended(3).build())).toEqual({ exitCode: 3 });
    expect(exitOf(pod().waiting('ImagePullBackOff').build())).toEqual({});
  });
});
