import { parseEvaluation } from '@crucible/crds';
import { describe, expect, it } from 'vitest';
import type { KubeClient, ListOptions } from '../kube/index.ts';
import { Applier } from './apply.ts';
import { listIdentities, needsContent, slimEvaluation } from './slim.ts';
import { rawEvaluation, snapshot } from './testing/builders.ts';
import { decide } from './testing/plans.ts';

const LARGE = 'x'.repeat(120 * 1024);
const managed = { metadata: { managedFields: [{ manager: 'kubectl' }] } };

describe('what the cache keeps of an Evaluation', () => {
  it.each([
    ['code', { code: LARGE }],
    ['standard input', { stdin: LARGE }],
    ['files', { files: [{ path: 'a', content: LARGE }, { path: 'b', content: '' }, { path: 'c', configMapRef: { name: 'm', key: 'k' } }] }],
  ])('is without large %s, and decides the same', (_, spec) => {
    const whole = rawEvaluation({ timeoutSeconds: 7, ...spec }, managed);
    const slim = slimEvaluation(structuredClone(whole));
    expect(JSON.stringify(slim).length).toBeLessThan(2048);
    expect(slim.metadata.managedFields).toBeUndefined();
    expect(slim.slim).toBe(true);
    expect(parseEvaluation(slim).spec).toMatchObject({ timeoutSeconds: 7, runtime: 'python' });
    const inputs = new Map([['m', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'm', labels: { 'crucible.dev/input': 'true' } }, data: { k: 'v' } }]]);
    const plans = [slim, whole].map((raw) => decide(snapshot({ raw, inputs })));
    const [types, wholeTypes] = plans.map(({ actions }) => actions.map(({ type }) => type));
    expect(types).toEqual(wholeTypes);
    expect(needsContent(plans[0]!.actions)).toBe(true);
    expect(plans[0]!.view).toEqual(plans[1]!.view);
  });

  it('is all of it when that is little', () => {
    const raw = rawEvaluation({}, managed);
    const { managedFields: _, ...metadata } = raw.metadata;
    expect(slimEvaluation(structuredClone(raw))).toEqual({ ...raw, metadata });
  });

  it.each([[null], [undefined], ['text'], [{ code: 7, files: 'no', stdin: null }], [{ files: [null, 7, { content: 5 }], code: LARGE }]])(
    'is as wrong as it was: %s',
    (spec) => {
      const raw = { ...rawEvaluation(), spec };
      const slim = slimEvaluation(structuredClone(raw)).spec as { files?: unknown };
      expect(slim?.files).toEqual((spec as { files?: unknown } | null | undefined)?.files);
    },
  );

  it('is never what is recorded or run', async () => {
    const applier = new Applier({ epoch: () => 1 } as never);
    const subject = snapshot({ raw: slimEvaluation(rawEvaluation({ code: LARGE })) });
    const { actions } = decide(subject);
    await expect(applier.apply(subject, actions, AbortSignal.timeout(1000))).rejects.toThrow('has not been read');
  });
});

it('a list of which there are holds nothing of their content', async () => {
  const annotations = { 'kubectl.kubernetes.io/last-applied-configuration': LARGE };
  const whole = rawEvaluation({ code: LARGE }, { metadata: { annotations, deletionTimestamp: '2026-01-01T00:00:00Z' } });
  const asked: unknown[] = [];
  const list = async (_: unknown, options: ListOptions) => {
    asked.push(options.limit);
    return { resourceVersion: '1', items: [options.transform!(whole)] };
  };
  const client = { list } as unknown as KubeClient;
  const { name, namespace, uid, deletionTimestamp } = whole.metadata;
  const { apiVersion, kind } = whole;
  expect(await listIdentities(client, {})).toEqual([{ apiVersion, kind, metadata: { name, namespace, uid, deletionTimestamp } }]);
  expect(asked).toEqual([100]);
});
