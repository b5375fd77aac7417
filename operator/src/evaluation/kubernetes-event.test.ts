import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hear } from './kubernetes-event.ts';

const NOW = Date.parse('2026-01-02T03:10:00Z');
const POD = '0b9d6c1e-7a53-4f0e-9c63-5f5d1c6f1a01';
const UID = '3c1f7c0e-1111-4f0e-9c63-5f5d1c6f1a02';

const raw = (changes: object = {}, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Event',
  metadata: { name: 'hello-1-x.18a', namespace: 'evals', uid: UID, resourceVersion: '7', creationTimestamp: '2026-01-02T03:05:00Z', managedFields: [{}], ...metadata },
  involvedObject: { kind: 'Pod', namespace: 'evals', name: 'hello-1-x', uid: POD },
  reason: 'Pulled',
  message: 'Container image already present',
  source: { component: 'kubelet', host: 'node-1' },
  type: 'Normal',
  count: 2,
  firstTimestamp: '2026-01-02T03:04:58Z',
  lastTimestamp: '2026-01-02T03:06:00Z',
  ...changes,
});

describe('what is kept of an event', () => {
  it('is what it is about and what it says', () => {
    expect(hear(raw(), NOW)).toEqual({
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: 'hello-1-x.18a', namespace: 'evals', uid: UID, resourceVersion: '7' },
      heard: {
        uid: UID, objectKind: 'Pod', objectName: 'hello-1-x', objectUid: POD, type: 'Normal', reason: 'Pulled',
        message: 'Container image already present', component: 'kubelet', count: 2,
        firstSeenAt: new Date('2026-01-02T03:04:58Z'), lastSeenAt: new Date('2026-01-02T03:06:00Z'),
      },
    });
  });

  it('is the same of the newer kind, which has other fields', () => {
    const newer = {
      source: {}, reportingComponent: 'default-scheduler', count: undefined, firstTimestamp: null, lastTimestamp: null,
      eventTime: '2026-01-02T03:05:00.123456Z', series: { count: 4, lastObservedTime: '2026-01-02T03:07:00.000001Z' },
    };
    expect(hear(raw(newer), NOW).heard).toMatchObject({
      component: 'default-scheduler', count: 4, firstSeenAt: new Date('2026-01-02T03:05:00.123Z'), lastSeenAt: new Date('2026-01-02T03:07:00.000Z'),
    });
  });

  it.each([
    ['nothing', undefined],
    ['another kind', { kind: 'ConfigMap', name: 'x', uid: POD }],
    ['no UID', { kind: 'Pod', name: 'x' }],
    ['something else for a UID', { kind: 'Job', name: 'x', uid: `${POD}'` }],
  ])('is nothing when it is about %s', (_, involvedObject) => {
    expect(hear(raw({ involvedObject }), NOW).heard).toBeUndefined();
  });

  it.each([
    ['0001-01-01T00:00:00Z', '9999-12-31T23:59:59Z', '2026-01-02T03:05:00Z', '2026-01-02T03:10:00Z'],
    ['2026-01-02T05:05:00Z', '2026-01-02T05:05:00Z', '2026-01-02T03:05:00Z', '2026-01-02T03:10:00Z'],
    ['2026-01-02T03:06:00Z', '2020-01-01T00:00:00Z', '2026-01-02T03:06:00Z', '2026-01-02T03:06:00Z'],
    ['yesterday', 7, '2026-01-02T03:05:00Z', '2026-01-02T03:05:00Z'],
  ])('of the times %s and %s it believes no more than the API server’s own clock allows', (firstTimestamp, lastTimestamp, first, last) => {
    expect(hear(raw({ firstTimestamp, lastTimestamp }), NOW).heard).toMatchObject({ firstSeenAt: new Date(first), lastSeenAt: new Date(last) });
  });

  it('is bounded and well formed, whatever was written into it', () => {
    const anything = fc.oneof(fc.string({ unit: 'binary', maxLength: 3000 }), fc.anything({ maxDepth: 1, maxKeys: 2 }));
    const fields = { reason: anything, message: anything, type: anything, count: anything, firstTimestamp: anything, lastTimestamp: anything, series: fc.option(fc.record({ count: anything, lastObservedTime: anything }), { nil: undefined }) };
    fc.assert(
      fc.property(fc.record(fields), fc.record({ component: anything }), anything, (changes, source, name) => {
        const heard = hear(raw({ ...changes, source, involvedObject: { kind: 'Job', name, uid: POD } }), NOW).heard!;
        const { objectName, type, reason, message, component, count, firstSeenAt, lastSeenAt } = heard;
        for (const [text, most] of [[objectName, 253], [type, 16], [reason, 128], [message, 1024], [component, 128]] as const) {
          expect(typeof text).toBe('string');
          expect(text.length).toBeLessThanOrEqual(most);
        }
        expect(Number.isSafeInteger(count) && count >= 1 && count <= 1e9).toBe(true);
        expect(lastSeenAt.getTime()).toBeGreaterThanOrEqual(firstSeenAt.getTime());
        expect(lastSeenAt.getTime()).toBeLessThanOrEqual(NOW);
      }),
      { numRuns: 50 },
    );
  });
});
