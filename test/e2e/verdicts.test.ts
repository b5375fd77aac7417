import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Evaluation } from '@crucible/crds';
import { NAMESPACE, apply, evaluation, eventually, getJson, kubectl, ok, sql, uniqueName, waitFor } from './cluster.ts';

// Every class of verdict, reached with real pods. All run at once: most of the time of each is waiting. What one node
// cannot do by itself is done to the pod as the component would do it that does so elsewhere (taint manager).

/** In the chart's values for the local cluster: quota, image pulls and nodes are waited for this long (s), not minutes. */
const END_SECONDS = 150;
/** With room for no pod at all. */
const FULL_NAMESPACE = 'evals-full';
const NO_HANDLER = 'crucible-e2e-no-handler';
const NO_NODE = 'crucible-e2e-no-node';
/** Of a PriorityClass and its pod. */
const URGENT = 'crucible-e2e-urgent';

type Spec = Record<string, unknown>;
interface Row {
  readonly what: string;
  readonly spec: Spec;
  readonly class: string;
  readonly by: string | undefined;
  readonly namespace?: string;
  /** Once its code runs. */
  readonly then?: (name: string, pod: string) => Promise<unknown>;
  /** In the stored output. */
  readonly kept?: string;
  /** Reasons of events of Kubernetes that its record keeps. */
  readonly told?: readonly string[];
}

const python = (code: string, more: Spec = {}): Spec => ({ runtime: 'python', code, ...more });
const goesOn = python('import time\nprint("begun", flush=True)\ntime.sleep(100)', { timeoutSeconds: 110 });
const hog = 'kept = []\nprint("begun", flush=True)\nfor _ in range(1000): kept.append(b"x" * (16 << 20))';
const small = { memory: '64Mi', disk: '16Mi' };
const deletePod = (pod: string) => ok(['delete', 'pod', pod, '-n', NAMESPACE, '--wait=false']);
const deleteJob = (pod: string) => ok(['delete', 'job', pod.replace(/-[^-]+$/, ''), '-n', NAMESPACE, '--cascade=foreground', '--wait=false']);
/** As the taint manager does: say why in the pod's status, then delete it. */
const disrupt = (reason: string) => async (_: string, pod: string) => {
  const conditions = [{ type: 'DisruptionTarget', status: 'True', reason, message: `${reason} by the test`, lastTransitionTime: new Date().toISOString().replace(/\.\d+Z/, 'Z') }];
  await ok(['patch', 'pod', pod, '-n', NAMESPACE, '--subresource=status', '--type=strategic', '-p', JSON.stringify({ status: { conditions } })]);
  await deletePod(pod);
};
const evict = (_: string, pod: string) =>
  ok(['create', '--raw', `/api/v1/namespaces/${NAMESPACE}/pods/${pod}/eviction`, '-f', '-'], JSON.stringify({ apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: pod, namespace: NAMESPACE } }));
const cancel = (name: string) => ok(['patch', 'evaluation', name, '-n', NAMESPACE, '--type=merge', '-p', '{"spec":{"cancel":true}}']);

const ROWS: readonly Row[] = [
  { what: 'exit 0', spec: python('print("fine")'), class: 'Succeeded', by: undefined, kept: 'fine' },
  { what: 'exit 7', spec: python('print("oh"); raise SystemExit(7)'), class: 'NonZeroExit', by: 'Code', kept: 'oh' },
  { what: 'a crash', spec: python('import ctypes\nprint("before", flush=True)\nctypes.string_at(0)'), class: 'Signalled', by: 'Code', kept: 'before' },
  { what: 'an endless loop', spec: python('print("on and on", flush=True)\nwhile True: pass', { timeoutSeconds: 3 }), class: 'TimedOut', by: 'Code', kept: 'on and on' },
  { what: 'too much memory, runc', spec: python(hog, { resources: small, isolation: { runtimeClassName: 'runc' } }), class: 'OutOfMemory', by: 'Code', kept: 'begun' },
  { what: 'too much memory, gVisor', spec: python(hog, { resources: small, isolation: { runtimeClassName: 'gvisor' } }), class: 'OutOfMemory', by: 'Code', kept: 'begun' },
  { what: 'too much on disk', spec: python('open("big", "wb").write(b"x" * (32 << 20))', { resources: small }), class: 'DiskExceeded', by: 'Code' },
  { what: 'no registry', spec: { image: 'registry.invalid/nobody/nothing:1', command: ['true'] }, class: 'ImagePullFailed', by: 'Infrastructure', told: ['Pulling', 'Failed'] },
  { what: 'no image name', spec: { image: 'UPPER/Case:1', command: ['true'] }, class: 'InvalidImage', by: 'User' },
  { what: 'no node', spec: python('1', { isolation: { runtimeClassName: NO_NODE } }), class: 'Unschedulable', by: 'Infrastructure', told: ['FailedScheduling'] },
  { what: 'no quota', spec: python('1'), class: 'QuotaExceeded', by: 'Policy', namespace: FULL_NAMESPACE, told: ['FailedCreate'] },
  { what: 'no sandbox on the node', spec: python('1', { isolation: { runtimeClassName: NO_HANDLER } }), class: 'SandboxRefused', by: 'Policy', told: ['FailedCreatePodSandBox'] },
  { what: 'cancelled', spec: goesOn, class: 'Cancelled', by: 'User', then: cancel, kept: 'begun' },
  { what: 'evicted through the API', spec: goesOn, class: 'Evicted', by: 'Infrastructure', then: evict, kept: 'begun' },
  { what: 'its node lost', spec: goesOn, class: 'NodeLost', by: 'Infrastructure', then: disrupt('DeletionByTaintManager'), kept: 'begun' },
  { what: 'its Job deleted by somebody, in the foreground', spec: goesOn, class: 'InternalError', by: 'Infrastructure', then: (_, pod) => deleteJob(pod), kept: 'begun' },
  { what: 'its pod deleted by somebody', spec: goesOn, class: 'InternalError', by: 'Infrastructure', then: (_, pod) => deletePod(pod), kept: 'begun' },
];

const runtimeClass = (name: string, handler: string, more: object = {}): object => ({
  apiVersion: 'node.k8s.io/v1',
  kind: 'RuntimeClass',
  metadata: { name },
  handler,
  ...more,
});

async function podOf(name: string): Promise<string> {
  return await eventually(`the pod of ${name}`, 60, async () => {
    const found = await kubectl(['get', 'pods', '-n', NAMESPACE, '-l', `crucible.dev/evaluation=${name}`, '-o', 'jsonpath={.items[*].metadata.name}']);
    return found.stdout.trim() || undefined;
  });
}

const UNITS: Readonly<Record<string, number>> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, k: 1e3, M: 1e6, G: 1e9 };
const bytesOf = (quantity: string): number => Number.parseInt(quantity) * (UNITS[quantity.replace(/^\d+/, '')] ?? 1);

/** What the scheduler would still give away. */
async function freeMemory(): Promise<number> {
  const { items: nodes } = await getJson<{ items: { status: { allocatable: { memory: string } } }[] }>(['nodes']);
  type Requests = { resources?: { requests?: { memory?: string } } };
  const { items: pods } = await getJson<{ items: { spec: { containers: Requests[] }; status: { phase: string } }[] }>(['pods', '-A']);
  const sum = (numbers: number[]): number => numbers.reduce((total, one) => total + one, 0);
  const taken = pods
    .filter(({ status }) => status.phase === 'Running' || status.phase === 'Pending')
    .flatMap(({ spec }) => spec.containers.map(({ resources }) => bytesOf(resources?.requests?.memory ?? '0')));
  return sum(nodes.map(({ status }) => bytesOf(status.allocatable.memory))) - sum(taken);
}

/** The scheduler does it: of the pods of lower priority the youngest goes, until this one has room. */
const preempt = async (): Promise<void> => {
  await apply({ apiVersion: 'scheduling.k8s.io/v1', kind: 'PriorityClass', metadata: { name: URGENT }, value: 1_000_000 });
  const memory = String((await freeMemory()) + (32 << 20));
  const container = { name: 'urgent', image: 'registry.k8s.io/pause:3.10', resources: { requests: { memory } } };
  const spec = { priorityClassName: URGENT, restartPolicy: 'Never', terminationGracePeriodSeconds: 0, containers: [container] };
  await apply({ apiVersion: 'v1', kind: 'Pod', metadata: { name: URGENT, namespace: 'default' }, spec });
};

async function through({ spec, namespace = NAMESPACE, then }: Row): Promise<Evaluation> {
  const name = uniqueName('verdict');
  await apply(evaluation(name, spec, namespace));
  if (then !== undefined) {
    await waitFor(name, 'Started', END_SECONDS);
    // The recorder follows a pod live from the moment it runs: wait until it has what was printed first.
    await eventually('the first output', 30, async () => {
      const { stdout } = await kubectl(['logs', await podOf(name), '-n', NAMESPACE]);
      return stdout.includes('begun') ? true : undefined;
    });
    await then(name, await podOf(name));
  }
  return await waitFor(name, 'Finished', END_SECONDS, namespace);
}

const results = new Map<string, Promise<Evaluation>>();

beforeAll(async () => {
  await apply(runtimeClass(NO_HANDLER, 'nowhere-installed'));
  await apply(runtimeClass(NO_NODE, 'runc', { scheduling: { nodeSelector: { 'crucible.dev/no-node-has-this': 'true' } } }));
  await apply(runtimeClass('runc', 'runc'));
  // The operator must have seen the classes: a run of one that it does not know is refused until it does.
  for (const row of ROWS) {
    const result = through(row);
    result.catch(() => undefined); // its own test says so
    results.set(row.what, result);
  }
});
afterAll(async () => {
  await ok(['delete', 'pod', URGENT, '-n', 'default', '--ignore-not-found']);
  await ok(['delete', 'priorityclass', URGENT, '--ignore-not-found']);
  await ok(['delete', 'runtimeclass', NO_HANDLER, NO_NODE, 'runc', '--ignore-not-found']);
});

describe('verdicts', () => {
  const judged = ({ class: kind, by, what, kept }: Row, { status }: Evaluation): void => {
    const { verdict } = status!;
    const evidence = verdict?.evidence?.map(({ source, detail }) => `${source}: ${detail}`).join('; ');
    console.log(`${what} | ${verdict?.class} | ${verdict?.attributableTo ?? '–'} | ${verdict?.confidence} | ${verdict?.message} | ${evidence}`);
    expect([verdict?.class, verdict?.attributableTo], verdict?.message).toEqual([kind, by]);
    if (kept !== undefined) expect(status?.output?.tail).toContain(kept);
  };
  it.each(ROWS.map((row) => [row.class, row.what, row] as const))('%s: %s', async (_, what, row) => {
    const result = await results.get(what)!;
    judged(row, result);
    await eventually(`events of Kubernetes: ${row.told?.join()}`, 30, async () => {
      const rows = await sql(`select reason from crucible.kubernetes_events where evaluation_uid = '${result.metadata?.uid}'`);
      return (row.told ?? []).every((reason) => rows.flat().includes(reason)) ? true : undefined;
    });
  });

  // By itself, after the others: it must be the youngest, and the room on the node must stand still.
  it('Preempted: its place taken by a pod of higher priority', async () => {
    const row: Row = { what: 'preempted', spec: goesOn, class: 'Preempted', by: 'Infrastructure', then: preempt, kept: 'begun' };
    judged(row, await through(row));
  });
});
