import { randomBytes, randomUUID } from 'node:crypto';
import { CAPTURE_FINALIZER, LABELS } from '@crucible/crds';
import { EVENTS, JOBS, KubeError, PODS, isNotFound } from '../kube/index.ts';
import type { KubeClient, KubeObject } from '../kube/index.ts';
import type { Check, PodTemplate, Smuggled } from './attack.ts';
import { inParallel } from './parallel.ts';

// Rule 29 on a running cluster, with no more rights than the operator has anyway. It may not create pods; but it creates
// Jobs, and of each the job controller makes a pod. So a Job that the operator has really made is copied, with one change
// in its template, and what admission says to the pod is in an event about the Job. Were a changed pod admitted, it would
// not start: the ConfigMap that it mounts is never made. A copy without a change shows that it is the change that is refused.

/** The job controller makes some 20 calls a second, and other people's Jobs want theirs. */
const AT_ONCE = 6;
const POLL_MS = 300;
const ANSWER_MS = 30_000;
const RELEASES = 5;
const QUOTA_TRIES = 10;

interface Job extends KubeObject {
  spec: { template: PodTemplate; [field: string]: unknown };
}
interface Event extends KubeObject {
  reason?: string;
  message?: string;
}

/** Where, and what marks what is made there, so that what an operator leaves behind can be found. */
export interface Mark {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly label: string;
  /** Undefined: of any drill. */
  readonly drill: string | undefined;
}

export interface Ground extends Mark {
  readonly signal: AbortSignal;
  readonly now: () => number;
}

/** What became of one Job's pod. Undefined: nothing yet. */
export type Answer = { readonly admitted: true } | { readonly admitted: false; readonly message: string } | undefined;

/** One changed pod. Pure. */
export function judgeSmuggled({ what, rule, podSecurity }: Smuggled, answer: Answer): Check {
  const check = (blocked: boolean | null, detail: string): Check => ({ check: what, blocked, detail });
  if (answer === undefined) return check(null, 'nothing became of it');
  if (answer.admitted) return check(false, 'its pod was admitted');
  const { message } = answer;
  if (message.includes(`sandbox rule ${rule}: `)) return check(true, `rule ${rule}`);
  if (podSecurity !== undefined && message.includes('violates PodSecurity') && message.includes(podSecurity))
    return check(true, 'Pod Security');
  return check(null, `refused by something else: ${message.slice(-160)}`);
}

/** All of them as evidence: what failed, or how many were refused by what. Pure. */
export function summary(control: Answer, checks: readonly Check[]): Check[] {
  if (control?.admitted !== true) {
    const why = control === undefined ? 'nothing became of it' : `it was refused: ${control.message.slice(-160)}`;
    return [{ check: 'the unchanged pod', blocked: null, detail: why }];
  }
  const failed = checks.filter(({ blocked }) => blocked !== true);
  if (failed.length > 0) return failed;
  const others = checks.filter(({ detail }) => detail === 'Pod Security').length;
  const detail = `${checks.length} refused, ${checks.length - others} by the rule meant for it, ${others} by Pod Security; unchanged it is admitted`;
  return [{ check: 'changed pods', blocked: true, detail }];
}

/** Tries every change on a copy of the Job of this evaluation. What it makes is left to `sweepSmuggled`. */
export async function smuggle(ground: Ground, evaluationUid: string, smuggled: readonly Smuggled[]): Promise<Check[]> {
  const { client, namespace, signal } = ground;
  const of = { namespace, labelSelector: `${LABELS.evaluationUid}=${evaluationUid}`, signal };
  const [job] = (await client.list<Job>(JOBS, of)).items;
  const [pod] = (await client.list<KubeObject>(PODS, of)).items;
  if (job === undefined || pod === undefined)
    return [{ check: 'the unchanged pod', blocked: null, detail: 'there is no Job to copy' }];
  const control = await answerTo(ground, copyOf(job, ground, () => {}));
  const work = smuggled.map(
    (one) => async () => judgeSmuggled(one, await answerTo(ground, copyOf(job, ground, one.change))),
  );
  return summary(control, [...(await inParallel(work, AT_ONCE)), ...(await relabel(ground, pod))]);
}

/** The Job as it was applied, under another name, for a run that there is not. */
function copyOf(job: Job, { drill, label, namespace }: Ground, change: (template: PodTemplate) => unknown): Job {
  const name = `drill-smuggling-${randomBytes(5).toString('hex')}`;
  const { selector: _selector, manualSelector: _manual, ...spec } = structuredClone(job.spec);
  const { template } = spec;
  const labels = Object.fromEntries(
    Object.entries(template.metadata.labels).filter(([key]) => !/(^|\/)(controller-uid|job-name)$/.test(key)),
  );
  const own = { ...labels, [LABELS.evaluationUid]: randomUUID(), [LABELS.evaluation]: name, [label]: drill ?? '' };
  template.metadata = { ...template.metadata, labels: { ...own } };
  for (const { configMap } of template.spec.volumes) if (configMap?.name === job.metadata.name) configMap!.name = name;
  change(template);
  const { [LABELS.sandbox]: _sandbox, ...mine } = own;
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name, namespace, labels: mine, annotations: { ...job.metadata.annotations } },
    spec: { ...spec, template, suspend: false, ttlSecondsAfterFinished: 60 },
  };
}

/** Creates the Job, waits until its pod is there or refused, and deletes it. */
async function answerTo({ client, namespace, signal, now }: Ground, wanted: Job): Promise<Answer> {
  let job: Job;
  try {
    job = await withoutQuotaConflicts(() => client.create(JOBS, wanted, { fieldManager: 'crucible-operator', signal }));
  } catch (error) {
    if (!(error instanceof KubeError) || error.code < 400 || error.code >= 500) throw error;
    return { admitted: false, message: `the Job itself: ${error.message}` };
  }
  const { name = '', uid = '' } = job.metadata;
  const about = { namespace, fieldSelector: `involvedObject.uid=${uid},reason=FailedCreate`, signal };
  const pods = { namespace, labelSelector: `batch.kubernetes.io/job-name=${name}`, signal };
  try {
    for (const end = now() + ANSWER_MS; now() < end; await new Promise((resolve) => setTimeout(resolve, POLL_MS))) {
      signal.throwIfAborted();
      const refused = (await client.list<Event>(EVENTS, about)).items.find(({ message }) => !isQuotaConflict(message));
      if (refused !== undefined) return { admitted: false, message: refused.message ?? '' };
      if ((await client.list<KubeObject>(PODS, pods)).items.length > 0) return { admitted: true };
    }
    return undefined;
  } finally {
    await client.delete(JOBS, namespace, name, { uid, propagationPolicy: 'Background' }).catch(() => {});
  }
}

/**
 * A quota that others count on at the same moment: the API server gives up after some tries, and says nothing of the object.
 * For pods the Job controller tries again a second later; a Job is ours to create again.
 */
export const isQuotaConflict = (message = ''): boolean => message.includes('Operation cannot be fulfilled on');

export async function withoutQuotaConflicts<T>(create: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await create();
    } catch (error) {
      if (tries === QUOTA_TRIES || !isQuotaConflict(error instanceof Error ? error.message : undefined)) throw error;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS * Math.random()));
    }
  }
}

/** A pod that runs keeps its labels: the right to patch pods does not make one run another's. Nothing is changed. */
async function relabel({ client, namespace, signal }: Ground, pod: KubeObject): Promise<Check[]> {
  const tries = { 'label changed': { [LABELS.evaluationUid]: randomUUID() }, 'label removed': { [LABELS.sandbox]: null } };
  const checks: Check[] = [];
  for (const [check, labels] of Object.entries(tries)) {
    try {
      await client.mergePatch(PODS, namespace, pod.metadata.name ?? '', { metadata: { labels } }, { dryRun: true, signal });
      checks.push({ check, blocked: false, detail: 'it was accepted' });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const meant = message.includes('the crucible.dev labels of a pod cannot be changed');
      checks.push({ check, blocked: meant ? true : null, detail: meant ? 'rule labels' : message.slice(0, 160) });
    }
  }
  return checks;
}

/** Jobs of a drill, and what holds their pods: nothing ran in them, so there is nothing to capture. */
export async function sweepSmuggled({ client, namespace, label, drill }: Mark): Promise<void> {
  const labelSelector = drill === undefined ? label : `${label}=${drill}`;
  for (const { metadata } of (await client.list<KubeObject>(JOBS, { namespace, labelSelector })).items)
    await client
      .delete(JOBS, namespace, metadata.name ?? '', { uid: metadata.uid, propagationPolicy: 'Background' })
      .catch(ignoreNotFound);
  // The Job controller takes its own finalizer off at the same time, so ours may stand elsewhere when the patch arrives.
  for (let tries = 0; tries < RELEASES; tries += 1) {
    const { items } = await client.list<KubeObject>(PODS, { namespace, labelSelector });
    const held = items.filter(({ metadata }) => metadata.finalizers?.includes(CAPTURE_FINALIZER));
    if (held.length === 0) return;
    for (const { metadata } of held) {
      const path = `/metadata/finalizers/${metadata.finalizers!.indexOf(CAPTURE_FINALIZER)}`;
      const patch = [{ op: 'test' as const, path, value: CAPTURE_FINALIZER }, { op: 'remove' as const, path }];
      await client.jsonPatch(PODS, namespace, metadata.name ?? '', patch).catch(() => undefined);
    }
  }
  throw new Error(`pods of a drill in namespace ${namespace} could not be let go`);
}

function ignoreNotFound(error: unknown): void {
  if (!isNotFound(error)) throw error;
}
