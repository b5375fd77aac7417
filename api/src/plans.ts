import { API_VERSION, InvalidResourceError, LABELS, PAUSE_CONFIG_MAP, parseEvaluation } from '@crucible/crds';
import type { Evaluation, EvaluationRuntime } from '@crucible/crds';
import { isForbidden, type KubeObject } from '@crucible/operator/kube';
import { admit, buildJob, pauseOf, type ClusterFacts, type Namespace, type Run } from '@crucible/operator/sandbox';
import type { Caller } from './auth/authenticator.ts';
import { toResource } from './evaluations.ts';
import { Problem } from './problems.ts';
import type { Services } from './services.ts';
import type { Submission } from './schemas/submission.ts';

// What would happen: the API server's own dry run, then the operator's own decision and its own way to make a pod.

export async function plan(services: Services, caller: Caller, body: Submission) {
  const dryRun = await services.cluster.createEvaluation(caller.token, toResource(body, body.metadata.name ?? 'plan'), true);
  const evaluation = readable(dryRun);
  const [{ facts, assumptions, runtimeHidden }, { paused, unseen }] = await Promise.all([gather(services, caller, evaluation), pauses(services, caller, evaluation)]);
  assumptions.push(...unseen);
  const decision = admit(evaluation, facts, services.operator);
  const queue = await services.snapshots.queue();
  const place = { waiting: queue.waiting.Queued, running: queue.running, limit: services.operator.maxConcurrent, positionAtMost: queue.waiting.Queued + 1 };
  const refusal = decision.admitted ? { reason: null, message: null } : { reason: decision.reason, message: decision.message };
  // A hidden runtime's image and command are unknown: better no pod than a wrong one.
  const shown = decision.admitted && !runtimeHidden
    ? { pod: render(evaluation, decision.run, services), policy: policyOf(decision.run, services) }
    : { pod: null, policy: null };
  return { admitted: decision.admitted, paused, ...refusal, assumptions, ...shown, queue: place };
}

/** As the operator would say it. An admitted run waits while Crucible or its namespace is paused. */
export async function pauses({ cluster, operator: { ownNamespace } }: Services, caller: Caller, { metadata: { namespace = '' } }: Evaluation) {
  const places = [...(ownNamespace === undefined ? [] : [[ownNamespace, 'Crucible'] as const]), [namespace, `Namespace "${namespace}"`] as const];
  const switches = await Promise.all(places.map(async ([where, what]) => {
    const found = await cluster.pauseSwitch<KubeObject & { data?: Record<string, string> }>(caller.token, where);
    const unseen = found === undefined ? [`${what} is not paused: you may not look at ConfigMap ${PAUSE_CONFIG_MAP} in ${where}`] : [];
    return { paused: pauseOf(found ?? undefined, what), unseen };
  }));
  return { paused: switches.find(({ paused }) => paused !== undefined)?.paused ?? null, unseen: switches.flatMap(({ unseen }) => unseen) };
}

function readable(object: KubeObject): Evaluation {
  try {
    return parseEvaluation({ ...object, apiVersion: API_VERSION, kind: 'Evaluation' });
  } catch (error) {
    if (error instanceof InvalidResourceError) throw new Problem(422, error.message);
    throw error;
  }
}

interface Gathered {
  readonly facts: ClusterFacts;
  readonly assumptions: string[];
  readonly runtimeHidden: boolean;
}

async function gather({ cluster, operator }: Services, caller: Caller, { metadata, spec }: Evaluation): Promise<Gathered> {
  const name = metadata.namespace ?? '';
  const [namespace, runtime, classes] = await Promise.all([
    cluster.namespace<Namespace>(caller.token, name),
    spec.runtime === undefined ? null : cluster.runtime<EvaluationRuntime & KubeObject>(caller.token, spec.runtime),
    cluster.runtimeClasses(caller.token),
  ]);
  const assumptions: string[] = [];
  if (namespace === undefined) assumptions.push(`namespace ${name} is enabled: you may not look at it`);
  if (runtime === undefined)
    assumptions.push(`EvaluationRuntime ${spec.runtime} exists and allows this: you may not look at it, so its pod cannot be shown (the ClusterRole crucible-runtime-viewer lets you)`);
  if (classes === undefined) assumptions.push('the RuntimeClass exists: you may not list runtimeclasses');
  for (const { configMapRef } of spec.files ?? [])
    if (configMapRef !== undefined)
      assumptions.push(`ConfigMap ${configMapRef.name} has a key ${configMapRef.key} and may be read: it is looked at when the run starts`);
  const enabled = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { [LABELS.evaluations]: 'enabled' } } };
  const runtimes = spec.runtime === undefined ? [] : runtime === null ? await others(cluster, caller) : [runtime ?? anything(spec.runtime)];
  const wanted = [spec.isolation?.runtimeClassName, ...runtimes.map((each) => each.spec.runtimeClassName), operator.sandbox.runtimeClassName];
  return {
    facts: {
      namespace: namespace === undefined ? enabled : (namespace ?? undefined),
      runtimes,
      runtimeClasses: classes ?? wanted.filter((each) => each !== undefined),
    },
    assumptions,
    runtimeHidden: runtime === undefined,
  };
}

/** There is none of the name: the operator's refusal tells which there are. */
async function others(cluster: Services['cluster'], caller: Caller): Promise<EvaluationRuntime[]> {
  return await cluster.runtimes<EvaluationRuntime & KubeObject>(caller.token).catch((error: unknown) => {
    if (isForbidden(error)) return [];
    throw error;
  });
}

/** A runtime that nobody may look at refuses nothing: no maximum, no RuntimeClass, no entry file that another could be. */
const anything = (name: string): EvaluationRuntime => ({ metadata: { name }, spec: { image: '', command: [], entryFile: '' } }) as unknown as EvaluationRuntime;

/** The pod of its first attempt; its uid is chosen when it runs. */
function render(evaluation: Evaluation, run: Run, { operator }: Services): Record<string, unknown> {
  const { namespace = '', name, uid = '' } = evaluation.metadata;
  const identity = { namespace, name, uid, attempt: 1 };
  const job = buildJob({ run, identity, sandboxUid: operator.sandbox.uids.first, settings: operator.sandbox, patience: operator.patience });
  const { template } = (job as KubeObject & { spec: { template: Record<string, unknown> } }).spec;
  return { apiVersion: 'v1', kind: 'Pod', ...template };
}

function policyOf(run: Run, { operator }: Services) {
  const { first, last } = operator.sandbox.uids;
  return {
    runtimeClassName: run.runtimeClassName ?? null,
    network: 'none: one NetworkPolicy denies all traffic of the namespace, in both directions',
    serviceAccountToken: false,
    userIds: { first, last },
    timeoutSeconds: run.timeoutSeconds,
    graceSeconds: operator.sandbox.graceSeconds,
    memoryBytes: run.memoryBytes,
    diskBytes: run.diskBytes,
    cpuMilli: run.cpuMilli,
    streamBytes: run.streamBytes,
    artifactBytes: run.artifacts?.maxBytes ?? 0,
  };
}
