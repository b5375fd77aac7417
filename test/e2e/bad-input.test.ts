import { describe, expect, it } from 'vitest';
import { apply, condition, evaluation, eventually, getEvaluation, NAMESPACE, ok, refusal, run, sql, uniqueName, waitFor } from './cluster.ts';

const python = (more: Record<string, unknown> = {}): Record<string, unknown> => ({ runtime: 'python', code: 'print(1)', ...more });

describe('refused by the API server, with what to change', () => {
  it.each([
    ['a wrong type', python({ timeoutSeconds: 'soon' }), /timeoutSeconds.*(integer|must be of type)/s],
    ['300 KiB of code', python({ code: 'x'.repeat(300 * 1024) }), /(128 KiB|131072)/],
    ['a negative timeout', python({ timeoutSeconds: -1 }), /timeoutSeconds.*greater than or equal to 1/s],
    ['runtime and image', python({ image: 'docker.io/library/debian:13.1-slim', command: ['true'] }), /exactly one of spec\.runtime .* and spec\.image/],
    ['neither runtime nor image', { code: 'print(1)' }, /exactly one of spec\.runtime .* and spec\.image/],
  ])('%s', async (_what, spec, message) => {
    expect(await refusal(evaluation(uniqueName('bad'), spec))).toMatch(message);
  });

  it('a changed spec', async () => {
    const name = uniqueName('bad');
    await apply(evaluation(name, python()));
    expect(await refusal(evaluation(name, python({ code: 'print(2)' })))).toMatch(/spec\.code cannot be changed: create another Evaluation/);
  });

  it('a namespace that is not enabled, saying how to enable one', async () => {
    expect(await refusal(evaluation(uniqueName('bad'), python(), 'default'))).toMatch(/evaluationNamespaces/);
  });
});

describe('told by the conditions', () => {
  it('an unknown runtime: Accepted=False names the known ones, and its coming starts the run', async () => {
    const name = uniqueName('bad');
    const runtime = uniqueName('later');
    await apply(evaluation(name, { runtime, code: 'echo late' }));
    const refused = await waitFor(name, 'Accepted=False', 30);
    expect(condition(refused, 'Accepted')?.message).toMatch(/python/);
    const bash = JSON.parse(await ok(['get', 'evaluationruntime', 'bash', '-o', 'json'])) as { spec: object };
    await apply({ apiVersion: 'crucible.dev/v1alpha1', kind: 'EvaluationRuntime', metadata: { name: runtime }, spec: bash.spec });
    try {
      expect((await waitFor(name, 'Finished')).status?.phase).toBe('Succeeded');
    } finally {
      await ok(['delete', 'evaluationruntime', runtime]);
    }
  });

  it('an image that does not exist: ImagePullFailed after a grace period', async () => {
    const result = await run({ image: 'registry.invalid/nobody/nothing:1', command: ['true'] }, 'noimage');
    expect(result.status).toMatchObject({ phase: 'Failed', verdict: { class: 'ImagePullFailed' } });
    expect(result.status?.verdict?.message).toContain('registry.invalid/nobody/nothing:1');
  });

  it('a RuntimeClass that does not exist: refused, never run under another', async () => {
    const name = uniqueName('bad');
    await apply(evaluation(name, python({ isolation: { runtimeClassName: 'stronger' } })));
    const refused = await waitFor(name, 'Accepted=False', 30);
    expect(condition(refused, 'Accepted')?.message).toMatch(/stronger/);
    expect(refused.status?.attempts ?? []).toEqual([]);
  });
});

describe('cancelled and deleted', () => {
  const slow = python({ code: 'import time\nprint("begun", flush=True)\ntime.sleep(100)', timeoutSeconds: 110 });

  it('cancel ends a running evaluation and keeps its output', async () => {
    const name = uniqueName('cancel');
    await apply(evaluation(name, slow));
    await waitFor(name, 'Started', 60);
    await ok(['patch', 'evaluation', name, '-n', NAMESPACE, '--type=merge', '-p', '{"spec":{"cancel":true}}']);
    const cancelled = await waitFor(name, 'Finished', 60);
    expect(cancelled.status).toMatchObject({ phase: 'Cancelled', verdict: { class: 'Cancelled', attributableTo: 'User' } });
    expect(cancelled.status?.output?.tail).toContain('begun');
  });

  it.each(['background', 'foreground'])('deleting a running evaluation (%s) leaves nothing behind but its record', async (cascade) => {
    const name = uniqueName('delete');
    await apply(evaluation(name, slow));
    const { metadata } = await waitFor(name, 'Started', 60);
    await ok(['delete', 'evaluation', name, '-n', NAMESPACE, '--timeout=90s', `--cascade=${cascade}`]);
    const recorded = `select e.verdict->>'class', s.bytes > 0 from crucible.evaluations e
      join crucible.streams s on s.evaluation_uid = e.uid and s.stream = 'stdout' where e.uid = '${metadata!.uid!}'`;
    expect(await sql(recorded)).toEqual([['Cancelled', 't']]);
    await eventually('Jobs, pods and ConfigMaps are gone', 60, async () => {
      const left = await ok(['get', 'jobs,pods,configmaps', '-n', NAMESPACE, '-l', `crucible.dev/evaluation-uid=${metadata!.uid!}`, '-o', 'name']);
      return left === '' ? true : undefined;
    });
  });
});

describe('what a person reads', () => {
  it('kubectl describe of a failed run says what happened and whose doing it was', async () => {
    const failed = await run(python({ code: 'import sys\nprint("about to fail")\nsys.exit(7)' }), 'describe');
    const name = failed.metadata!.name!;
    const text = await ok(['describe', 'evaluation', name, '-n', NAMESPACE]);
    for (const part of ['NonZeroExit', 'about to fail', 'Attributable To:  Code']) expect(text).toContain(part);
    expect((await getEvaluation(name)).status?.exitCode).toBe(7);
  });

  it('status stays under 16 KiB', async () => {
    const noisy = await run(python({ code: 'for i in range(20000): print("line", i)' }), 'noisy');
    expect(Buffer.byteLength(JSON.stringify(noisy.status))).toBeLessThan(16 * 1024);
    expect(noisy.status?.output?.complete).toBe(true);
  });
});
