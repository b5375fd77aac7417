import { CAPTURE_FINALIZER } from '@crucible/crds';
import { describe, expect, it } from 'vitest';
import type { KubeObject } from '../kube/index.ts';
import { releasePod, removeFinalizer } from './finalizers.ts';
import { pod, rawEvaluation } from './testing/builders.ts';
import { scriptedApi } from './testing/scripted.ts';

const api = scriptedApi();

/** What was patched. Each patch gets the next answer (200 once there is none), each GET the object that is there now. */
function answer(codes: number[], live: KubeObject | undefined): object[] {
  const patched: object[] = [];
  api.server.handler = (exchange) => {
    if (exchange.method === 'GET') return live === undefined ? exchange.fail(404, 'NotFound') : exchange.json(live);
    patched.push(exchange.body as object);
    const code = codes.shift();
    if (code === undefined) exchange.json({ metadata: {} });
    else exchange.fail(code, ({ 404: 'NotFound', 409: 'Conflict', 422: 'Invalid', 403: 'Forbidden' } as Record<number, string>)[code]!);
  };
  return patched;
}

const another = (object: KubeObject): KubeObject => ({ ...object, metadata: { ...object.metadata, uid: 'another' } });

describe('a pod', () => {
  const held = pod().ended(0).build();

  it('loses our finalizer by its name, and only the pod of that uid', async () => {
    const patched = answer([], undefined);
    await releasePod(api.client, held, {});
    expect(patched).toEqual([{ metadata: { uid: held.metadata.uid, '$deleteFromPrimitiveList/finalizers': [CAPTURE_FINALIZER] } }]);
  });

  it.each([
    [404, undefined],
    [409, undefined],
    [422, another(held)],
  ])('needs no more when it is gone, or another one has its name (%i)', async (code, live) => {
    const patched = answer([code], live);
    await releasePod(api.client, held, {});
    expect(patched).toHaveLength(1);
  });

  it.each([403, 409, 422])('is not taken for released when it is there and was not (%i)', async (code) => {
    answer([code], held);
    await expect(releasePod(api.client, held, {})).rejects.toMatchObject({ code });
  });
});

describe('an Evaluation', () => {
  const held = rawEvaluation({}, { metadata: { finalizers: ['example.com/other', CAPTURE_FINALIZER] } });
  const removal = (index: number): object[] => [
    { op: 'test', path: '/metadata/uid', value: held.metadata.uid },
    { op: 'test', path: `/metadata/finalizers/${index}`, value: CAPTURE_FINALIZER },
    { op: 'remove', path: `/metadata/finalizers/${index}` },
  ];

  it('loses our finalizer, found anew when others have removed theirs meanwhile', async () => {
    const patched = answer([422], { ...held, metadata: { ...held.metadata, finalizers: [CAPTURE_FINALIZER] } });
    await removeFinalizer(api.client, held, {});
    expect(patched).toEqual([removal(1), removal(0)]);
  });

  it('is let alone when it has none of ours, is gone, or another one has its name', async () => {
    const free = { ...held, metadata: { ...held.metadata, finalizers: ['example.com/other'] } };
    const untouched = answer([], undefined);
    expect(await removeFinalizer(api.client, free, {})).toBe(free);
    expect(untouched).toEqual([]);
    for (const [code, live] of [[404, held], [422, undefined], [422, another(held)]] as const) {
      const patched = answer([code], live);
      expect(await removeFinalizer(api.client, held, {})).toBeUndefined();
      expect(patched).toEqual([removal(1)]);
    }
  });

  it.each([[[403]], [[422, 409, 422]]])('is not taken for released when it was not (%j)', async (codes) => {
    answer([...codes], held);
    await expect(removeFinalizer(api.client, held, {})).rejects.toMatchObject({ code: codes.at(-1) });
  });
});
