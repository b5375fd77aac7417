import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Evaluation, EvaluationRuntime, EvaluationSuite } from '@crucible/crds';
import { condition, eventually, getJson, NAMESPACE, kubectl, ok, RUN_SECONDS, samples, sql, waitFor } from './cluster.ts';

/** Applies a sample anew: an evaluation runs once, so an earlier one of that name goes first. */
async function sample(file: string): Promise<Evaluation[]> {
  const path = join(samples, file);
  await ok(['delete', '-f', path, '--ignore-not-found', '--timeout=120s']);
  await ok(['apply', '-f', path]);
  const listed = await getJson<{ items?: Evaluation[] } & Evaluation>(['-f', path]);
  const names = (listed.items ?? [listed]).map((object) => object.metadata!.name!);
  return Promise.all(names.map((name) => waitFor(name, 'Finished')));
}

const one = async (file: string): Promise<Evaluation> => (await sample(file))[0]!;

describe('deploy/samples', () => {
  it('hello: runs, ends Succeeded, and its output is in the status', async () => {
    const hello = await one('hello.yaml');
    expect(hello.status?.phase).toBe('Succeeded');
    expect(hello.status?.verdict?.class).toBe('Succeeded');
    expect(hello.status?.exitCode).toBe(0);
    expect(hello.status?.output?.tail).toContain('hello');
    expect(hello.status?.output?.complete).toBe(true);
    for (const type of ['Accepted', 'Started', 'Captured', 'Complete', 'Finished', 'Ready']) {
      expect([type, condition(hello, type)?.status]).toEqual([type, 'True']);
    }
    expect(condition(hello, 'Failed')?.status ?? 'False').toBe('False');
    const complete = await kubectl(['wait', '--for=condition=Complete', 'evaluation/hello', '-n', NAMESPACE, '--timeout=60s']);
    expect(complete.stdout).toContain('condition met');
  });

  it('hello: a second apply changes nothing', async () => {
    const path = join(samples, 'hello.yaml');
    await ok(['apply', '-f', path]);
    // Our finalizer goes a second after the end.
    const before = await eventually('no finalizer', 30, async () => {
      const hello = await getJson<Evaluation>(['-f', path]);
      return hello.metadata?.finalizers === undefined ? hello : undefined;
    });
    expect(await ok(['apply', '-f', path])).toContain('unchanged');
    const after = await getJson<Evaluation>(['-f', path]);
    expect(after.metadata?.resourceVersion).toBe(before.metadata?.resourceVersion);
  });

  it('hello: its columns are readable', async () => {
    const [head, ...rows] = (await ok(['get', 'evaluations', '-n', NAMESPACE])).split('\n');
    expect(head!.trim().split(/\s{2,}|\s/)).toEqual(expect.arrayContaining(['NAME', 'PHASE', 'VERDICT', 'EXIT', 'PASSED', 'ATTEMPTS', 'DURATION', 'AGE']));
    expect(rows.find((row) => row.startsWith('hello '))).toMatch(/Succeeded +Succeeded +0 /);
  });

  it('hello: a row in Postgres holds verdict, exit code and both streams with their bytes', async () => {
    const hello = await getJson<Evaluation>(['evaluation/hello', '-n', NAMESPACE]);
    const uid = hello.metadata!.uid!;
    expect(await sql(`select phase, verdict->>'class', accepted_attempt from crucible.evaluations where uid = '${uid}'`)).toEqual([['Succeeded', 'Succeeded', '1']]);
    expect(await sql(`select exit_code, state from crucible.attempts where evaluation_uid = '${uid}'`)).toEqual([['0', 'finalized']]);
    const streams = await sql(`select stream, bytes, complete from crucible.streams where evaluation_uid = '${uid}' order by stream`);
    expect(streams).toEqual([
      ['stderr', String(hello.status!.output!.stderrBytes), 't'],
      ['stdout', String(hello.status!.output!.stdoutBytes), 't'],
    ]);
    const [[stored] = []] = await sql(`select coalesce(sum(length(data)), 0) from crucible.output_chunks where evaluation_uid = '${uid}' and stream = 'stdout'`);
    expect(stored).toBe(String(hello.status!.output!.stdoutBytes));
  });

  it('failing: the exit code is exact and the code is to blame', async () => {
    const failing = await one('failing.yaml');
    expect(failing.status).toMatchObject({ phase: 'Failed', exitCode: 3, verdict: { class: 'NonZeroExit', attributableTo: 'Code' } });
    expect(condition(failing, 'Failed')?.status).toBe('True');
  });

  it('timeout: ends TimedOut and what was printed before is kept', async () => {
    const timeout = await one('timeout.yaml');
    expect(timeout.status).toMatchObject({ phase: 'Failed', verdict: { class: 'TimedOut', attributableTo: 'Code' } });
    expect(timeout.status?.output?.stdoutBytes).toBeGreaterThan(0);
  });

  it('out of memory: ends OutOfMemory and what was printed before is kept', async () => {
    const oom = await one('out-of-memory.yaml');
    expect(oom.status).toMatchObject({ phase: 'Failed', verdict: { class: 'OutOfMemory' } });
    expect(oom.status?.output?.stdoutBytes).toBeGreaterThan(0);
  });

  it('languages: python, node and bash all run', async () => {
    const runs = await sample('languages.yaml');
    expect(runs.length).toBeGreaterThanOrEqual(3);
    for (const run of runs) expect([run.metadata?.name, run.status?.phase]).toEqual([run.metadata?.name, 'Succeeded']);
    expect(new Set(runs.map((run) => run.spec.runtime))).toEqual(new Set(['python', 'node', 'bash']));
  });

  it('artifacts: files are counted and their rows hold path, size and hash', async () => {
    const run = await one('artifacts.yaml');
    expect(run.status?.phase).toBe('Succeeded');
    expect(run.status?.artifacts?.count).toBeGreaterThan(0);
    expect(run.status?.artifacts?.complete).toBe(true);
    const rows = await sql(`select path, size, length(sha256::text) > 30 from crucible.artifacts where evaluation_uid = '${run.metadata!.uid!}' and refused is null`);
    expect(rows).toHaveLength(run.status!.artifacts!.count!);
    for (const [path, , hashed] of rows) expect([path, hashed]).toEqual([path, 't']);
  });

  it('gvisor: the code sees gVisor’s kernel', async () => {
    const run = await one('gvisor.yaml');
    expect(run.status?.phase).toBe('Succeeded');
    expect(run.status?.output?.tail?.toLowerCase()).toContain('gvisor');
  });

  it('suite: six runs, counted by cell, and a pipeline can wait for it', async () => {
    const path = join(samples, 'suite.yaml');
    await ok(['delete', '-f', path, '--ignore-not-found', '--timeout=120s']);
    await ok(['apply', '-f', path]);
    await ok(['wait', '--for=condition=Complete', 'evaluationsuite/powers', '-n', NAMESPACE, `--timeout=${RUN_SECONDS}s`]);
    const { metadata, status } = await getJson<EvaluationSuite>(['evaluationsuite/powers', '-n', NAMESPACE]);
    expect(status).toMatchObject({
      phase: 'Succeeded',
      summary: { total: 6, passed: 4, failed: 2, infrastructureFailed: 0, cancelled: 0, passRates: { all: { rate: 0.6667 } } },
    });
    expect(status?.cells?.map(({ parameters, passed, failed }) => [parameters, passed, failed])).toEqual([
      [{ BASE: '2', EXPONENT: '2' }, 2, 0], [{ BASE: '3', EXPONENT: '1' }, 2, 0], [{ BASE: '3', EXPONENT: '2' }, 0, 2],
    ]);
    const runs = await getJson<{ items: Evaluation[] }>(['evaluations', '-n', NAMESPACE, '-l', `crucible.dev/suite-uid=${metadata.uid}`]);
    expect(runs.items).toHaveLength(6);
    expect(await sql(`select outcome, count(*) from crucible.suite_runs where suite_uid = '${metadata.uid}' group by 1 order by 1`)).toEqual([['Failed', '2'], ['Passed', '4']]);
    expect(await ok(['apply', '-f', path])).toContain('unchanged');
    // Its runs go with it, by the garbage collector, and the record stays.
    await ok(['delete', '-f', path, '--cascade=foreground', '--timeout=60s']);
    await eventually('the runs to be gone', 60, async () => {
      const left = await getJson<{ items: Evaluation[] }>(['evaluations', '-n', NAMESPACE, '-l', `crucible.dev/suite-uid=${metadata.uid}`]);
      return left.items.length === 0 ? true : undefined;
    });
    expect(await sql(`select phase, summary->>'passed' from crucible.suites where uid = '${metadata.uid}'`)).toEqual([['Succeeded', '4']]);
  });

  it('runtimes: those of the chart are ready', async () => {
    const { items } = await getJson<{ items: EvaluationRuntime[] }>(['evaluationruntimes']);
    for (const { metadata, status } of items)
      expect([metadata.name, status?.conditions?.find(({ type }) => type === 'Ready')?.status]).toEqual([metadata.name, 'True']);
  });

  it('there is a test for every sample', () => {
    expect(readdirSync(samples).filter((file) => file.endsWith('.yaml')).sort()).toEqual(
      ['artifacts.yaml', 'failing.yaml', 'gvisor.yaml', 'hello.yaml', 'languages.yaml', 'out-of-memory.yaml', 'suite.yaml', 'timeout.yaml'],
    );
  });
});
