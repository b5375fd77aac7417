import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NAMESPACE, RELEASE_NAMESPACE, apply, evaluation, eventually, getEvaluation, kubectl, ok, uniqueName, waitFor } from './cluster.ts';

// The switch as it is deployed: the operator's own rights, and those of a person who may pause and nothing else.

const PAUSER = `system:serviceaccount:${NAMESPACE}:pauser`;
const patch = (namespace: string, data: object | null, ...more: string[]) =>
  ['patch', 'configmap', 'crucible-pause', '-n', namespace, '--type=merge', '-p', JSON.stringify({ data }), ...more];

beforeAll(async () => {
  for (const namespace of [NAMESPACE, RELEASE_NAMESPACE])
    await ok(['create', 'rolebinding', 'e2e-pauser', '-n', namespace, '--clusterrole=crucible-pauser', `--serviceaccount=${NAMESPACE}:pauser`]);
});
afterAll(async () => {
  for (const namespace of [NAMESPACE, RELEASE_NAMESPACE]) {
    await ok(patch(namespace, null));
    await ok(['delete', 'rolebinding', 'e2e-pauser', '-n', namespace]);
  }
});

describe('the pause switch', () => {
  it.each([
    ['of the installation', RELEASE_NAMESPACE],
    ['of the namespace', NAMESPACE],
  ])('%s, by somebody who may do nothing else: queued says so, and goes on after it', async (_, namespace) => {
    await ok(patch(namespace, { paused: 'true', reason: 'the e2e test' }, `--as=${PAUSER}`));
    const name = uniqueName('paused');
    await apply(evaluation(name, { runtime: 'python', code: 'print("at last")' }));
    const queue = await eventually('the reason', 60, async () => {
      const { status } = await getEvaluation(name);
      return status?.queue?.reason === 'Paused' ? status.queue : undefined;
    });
    expect(queue.message).toContain('the e2e test');
    expect((await getEvaluation(name)).status?.attempts).toBeUndefined();
    await ok(patch(namespace, null, `--as=${PAUSER}`));
    expect((await waitFor(name, 'Finished')).status?.phase).toBe('Succeeded');
  });

  it('is all that a pauser may touch', async () => {
    const denied = await kubectl(['create', 'configmap', 'other', '-n', NAMESPACE, `--as=${PAUSER}`]);
    expect([denied.code, denied.stderr]).toEqual([1, expect.stringContaining('forbidden')]);
    expect((await kubectl(['auth', 'can-i', 'get', 'evaluations', '-n', NAMESPACE, `--as=${PAUSER}`])).stdout.trim()).toBe('no');
  });
});
