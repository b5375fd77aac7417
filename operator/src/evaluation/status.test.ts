import { evaluationStatusSchema } from '@crucible/crds';
import { describe, expect, it } from 'vitest';
import type { View } from './actions.ts';
import { plan } from './plan.ts';
import { announcements, buildStatus, sameStatus } from './status.ts';
import { NOW, launched, output, pod, settings, snapshot } from './testing/builders.ts';
import type { Snapshot } from './snapshot.ts';

function view(subject: Snapshot): View {
  const result = plan(subject, NOW, settings()).view;
  if (result === undefined) throw new Error('no view');
  return result;
}

const holds = (subject: Snapshot): string[] =>
  buildStatus(view(subject), 1, undefined, NOW)
    .conditions!.filter(({ status }) => status === 'True')
    .map(({ type }) => type)
    .sort();

describe('buildStatus', () => {
  it.each<[string, Snapshot, string[]]>([
    ['refused', snapshot({ spec: { runtime: 'cobol' } }), ['Stalled']],
    ['queued', snapshot({ turn: false }), ['Accepted', 'Reconciling']],
    ['starting', snapshot(), ['Accepted', 'Reconciling']],
    ['running', launched({ pod: pod().running().build() }), ['Accepted', 'Reconciling', 'Started']],
    ['capturing', launched({ pod: pod().ended(0).build() }), ['Accepted', 'Reconciling', 'Started']],
    [
      'succeeded',
      launched({ pod: pod().ended(0).build(), output: output() }),
      ['Accepted', 'Captured', 'Complete', 'Finished', 'Ready', 'Started'],
    ],
    [
      'failed',
      launched({ pod: pod().ended(1).build(), output: output() }),
      ['Accepted', 'Captured', 'Failed', 'Finished', 'Stalled', 'Started'],
    ],
    ['cancelled', snapshot({ spec: { cancel: true } }), ['Accepted', 'Captured', 'Failed', 'Finished', 'Stalled']],
  ])('%s', (_, subject, expected) => {
    expect(holds(subject)).toEqual(expected);
    expect(evaluationStatusSchema.safeParse(buildStatus(view(subject), 1, undefined, NOW)).error).toBeUndefined();
  });

  it('says what it waits for where kubectl and kstatus look', () => {
    const { conditions, queue } = buildStatus(view(snapshot({ turn: false, heldBack: 'NamespaceLimit' })), 1, undefined, NOW);
    for (const type of ['Ready', 'Reconciling'])
      expect(conditions!.find((one) => one.type === type)).toMatchObject({ reason: 'Queued', message: queue!.message });
  });

  it('shows the end of both streams, within 16 KiB whatever they hold', () => {
    const both = { ...output('x'.repeat(3000)), stderrTail: Buffer.from(`${'\u202e'.repeat(600)}Traceback\n`) };
    const status = buildStatus(view(launched({ pod: pod().ended(1).build(), output: both })), 1, undefined, NOW);
    expect(status.output?.tail).toMatch(/^x{2048}$/);
    expect(status.output?.stderrTail).toMatch(/Traceback\n$/);
    expect(Buffer.byteLength(status.output!.stderrTail!)).toBeLessThanOrEqual(1024);
    expect(Buffer.byteLength(JSON.stringify(status))).toBeLessThan(16 * 1024);
    expect(evaluationStatusSchema.safeParse(status).error).toBeUndefined();
  });

  it('counts whole seconds by the kubelet’s times', () => {
    expect(
      buildStatus(view(launched({ pod: pod().ended(0).build(), output: output() })), 1, undefined, NOW),
    ).toMatchObject({
      startedAt: '2026-01-01T11:59:20Z',
      finishedAt: '2026-01-01T11:59:50Z',
      durationSeconds: 30,
      duration: '30s',
      exitCode: 0,
    });
  });

  it('keeps the time of a transition, so that the same state is written once', () => {
    const subject = launched({ pod: pod().running().build() });
    const first = buildStatus(view(subject), 1, undefined, NOW);
    const later = buildStatus(view(subject), 1, first, NOW + 60_000);
    expect(later).toEqual(first);
    expect(sameStatus(first, structuredClone(later))).toBe(true);
    const ended = buildStatus(
      view(launched({ pod: pod().ended(0).build(), output: output() })),
      1,
      first,
      NOW + 60_000,
    );
    const since = (type: string) => ended.conditions!.find((condition) => condition.type === type)!.lastTransitionTime;
    expect(since('Accepted')).toBe('2026-01-01T12:00:00Z');
    expect(since('Ready')).toBe('2026-01-01T12:01:00Z');
    expect(sameStatus(first, ended)).toBe(false);
  });
});

describe('announcements', () => {
  it('one for the end and for each thing that goes wrong, with the condition’s reason, and none without a change', () => {
    const running = buildStatus(view(launched({ pod: pod().running().build() })), 1, undefined, NOW);
    const failed = buildStatus(view(launched({ pod: pod().ended(1).build(), output: output() })), 1, running, NOW);
    expect(announcements(undefined, running)).toEqual([]);
    expect(announcements(running, running)).toEqual([]);
    expect(announcements(running, failed).map(({ type, reason }) => [type, reason])).toEqual([
      ['Warning', 'NonZeroExit'],
    ]);
  });
});
