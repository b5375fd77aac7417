import { clip } from '@crucible/crds';
import type { Verdict } from '@crucible/crds';
import { resumedAt } from './kueue.ts';
import type { ContainerStatus, Job, KubeEvent, Pod } from './objects.ts';
import { isScheduled, sandboxStatus, waitingSince } from './pod.ts';
import type { Patience } from './settings.ts';
import { evidence, verdict } from './verdict.ts';

/** Where an attempt stands whose code has not started. */
export type Start =
  | { readonly kind: 'waiting'; readonly reason: string; readonly message: string }
  | { readonly kind: 'failed'; readonly verdict: Verdict };

export interface StartInputs {
  readonly job: Job;
  readonly pod: Pod | undefined;
  /** Warnings about the Job or its pod: only there does Kubernetes say why it cannot make one. */
  readonly warnings: readonly KubeEvent[];
  readonly image: string;
  /** Since when its container is seen to fail as it does, in milliseconds; undefined: just now. */
  readonly failingSince?: number | undefined;
  readonly now: number;
  readonly patience: Patience;
}

/** Is it still worth waiting for the code to start? Pure. */
export function judgeStart(inputs: StartInputs): Start {
  return inputs.pod === undefined ? withoutPod(inputs) : withPod(inputs, inputs.pod);
}

function waiting(reason: string, message: string): Start {
  return { kind: 'waiting', reason, message };
}

function failed(result: Verdict): Start {
  return { kind: 'failed', verdict: result };
}

function withoutPod({ job, warnings, now, patience }: StartInputs): Start {
  const refusal = warnings.find((event) => event.reason === 'FailedCreate');
  const age = ageSeconds(resumedAt(job), now);
  const said = refusal?.message ?? '';
  if (refusal !== undefined) return judgeRefusal('Job/FailedCreate', said, age, patience);
  if (age >= patience.startUp) {
    return failed(
      verdict('InternalError', 'Infrastructure', 'Kubernetes created no pod for this run in time.', [
        evidence('Job', 'no pod was created'),
      ]),
    );
  }
  return waiting('PodPending', 'Waits for its pod.');
}

/** The API server refused to create the Job or its pod. Pure; also asked for a Job that could not be created at all. */
export function judgeRefusal(source: string, said: string, age: number, patience: Patience): Start {
  const facts = [evidence(source, said)];
  if (/exceeded quota|failed quota/i.test(said)) {
    if (age < patience.quota) return waiting('QuotaExceeded', 'Waits for room in the namespace’s ResourceQuota.');
    const message =
      'The namespace’s ResourceQuota left no room for this run. Ask for less in spec.resources, or have the quota raised.';
    return failed(verdict('QuotaExceeded', 'Policy', message, facts));
  }
  if (age < patience.refused)
    return waiting('SandboxRefused', 'The cluster refuses to create the sandbox; it is tried again for a short while.');
  return failed(verdict('SandboxRefused', 'Policy', refusalMessage(said), facts));
}

function refusalMessage(said: string): string {
  const missing = /RuntimeClass "?([^" ]+)"? not found/i.exec(said)?.[1];
  if (missing !== undefined)
    return `The cluster no longer has RuntimeClass "${clip(missing, 64)}", and Crucible never falls back to another.`;
  return 'The cluster’s policies refused the sandbox pod; the evidence has their words.';
}

const PULLING = new Set([
  'ErrImagePull',
  'ImagePullBackOff',
  'ErrImageNeverPull',
  'RegistryUnavailable',
  'SignatureValidationFailed',
  'ImageInspectError',
]);
const BROKEN = new Set(['CreateContainerConfigError', 'CreateContainerError', 'RunContainerError', 'CrashLoopBackOff']);

function withPod(inputs: StartInputs, pod: Pod): Start {
  const { now, patience } = inputs;
  if (!isScheduled(pod)) return unscheduled(inputs, pod);
  const age = ageSeconds(waitingSince(pod), now);
  const { init, status } = waitingContainer(pod);
  const { reason = '', message = '' } = status?.state?.waiting ?? {};
  // Not from the pod's start: on a busy node a pull may begin late and take its time, and only a failure is given up.
  const failingFor = failingSeconds(inputs, status?.name ?? '', PULLING.has(reason));
  // The name in the status is the one the kubelet resolved; before that, the one that was asked for.
  const image = init?.image ?? inputs.image;

  if (reason === 'InvalidImageName') {
    return failed(
      verdict('InvalidImage', 'User', `"${clip(image, 256)}" is not a valid image name. Correct spec.image.`, [
        evidence('Container', `${reason}: ${message}`),
      ]),
    );
  }
  if (PULLING.has(reason)) {
    if (failingFor < patience.imagePull)
      return waiting('ImagePullFailing', 'The image could not be pulled; the node tries again.');
    return failed(pullFailed(image, reason, message));
  }
  const sandbox = inputs.warnings.find((event) => event.reason === 'FailedCreatePodSandBox');
  if (
    sandbox !== undefined &&
    /runtime handler|no runtime for/i.test(sandbox.message ?? '') &&
    age >= patience.refused
  ) {
    return failed(
      verdict('SandboxRefused', 'Policy', 'The node does not offer the sandbox runtime that this run asks for.', [
        evidence('Pod/FailedCreatePodSandBox', sandbox.message ?? ''),
      ]),
    );
  }
  if (BROKEN.has(reason) && failingFor >= patience.imagePull) {
    return failed(
      verdict('InternalError', 'Infrastructure', 'The node could not create the container.', [
        evidence('Container', `${reason}: ${message}`),
      ]),
    );
  }
  return waiting('ContainerCreating', 'The node prepares the container.');
}

function waitingContainer(pod: Pod): { init: ContainerStatus | undefined; status: ContainerStatus | undefined } {
  const init = pod.status?.initContainerStatuses?.find(({ state }) => state?.waiting !== undefined);
  return { init, status: init ?? sandboxStatus(pod) };
}

/** What a container fails with before it runs, in one word that stays the same while it does; undefined: it does not. */
export function failingStart(pod: Pod | undefined): string | undefined {
  const { status } = pod === undefined ? {} : waitingContainer(pod);
  const reason = status?.state?.waiting?.reason ?? '';
  const what = PULLING.has(reason) ? 'pull' : BROKEN.has(reason) ? 'create' : undefined;
  return what && `${pod?.metadata.uid}/${status?.name}/${what}`;
}

/** A container's status has no time. Ours is that of the first look; the kubelet's event knows of looks before a restart. */
function failingSeconds({ warnings, failingSince, now }: StartInputs, container: string, pulling: boolean): number {
  const said = warnings
    .filter(({ reason, message = '' }) => reason === 'Failed' && /pull/i.test(message) === pulling)
    .filter(({ involvedObject }) => involvedObject?.fieldPath?.endsWith(`{${container}}`) === true)
    .map(({ firstTimestamp }) => Date.parse(firstTimestamp ?? ''))
    .filter((time) => !Number.isNaN(time));
  return (now - Math.min(now, failingSince ?? now, ...said)) / 1000;
}

function pullFailed(image: string, reason: string, message: string): Verdict {
  // Whose fault it was shows in the registry's answer: a name that does not exist is the user's, no answer is not.
  const unreachable =
    /timeout|timed out|connection refused|no such host|temporary failure|i\/o|TLS|EOF|5\d\d /i.test(message) &&
    !/not found|denied|unauthorized/i.test(message);
  return verdict(
    'ImagePullFailed',
    unreachable ? 'Infrastructure' : 'User',
    `The image "${clip(image, 256)}" could not be pulled. Check its name and tag, and that the cluster may pull it.`,
    [evidence('Container', `${reason}: ${message}`)],
  );
}

function unscheduled({ now, patience }: StartInputs, pod: Pod): Start {
  const condition = pod.status?.conditions?.find(({ type, status }) => type === 'PodScheduled' && status === 'False');
  const age = ageSeconds(condition?.lastTransitionTime ?? pod.metadata.creationTimestamp, now);
  if (condition?.reason !== 'Unschedulable') return waiting('PodPending', 'Waits for a node.');
  if (age < patience.unschedulable) return waiting('Unschedulable', 'No node has room for it at present.');
  return failed(
    verdict(
      'Unschedulable',
      'Infrastructure',
      'No node had room for this run. Ask for less in spec.resources, try later, or have nodes added.',
      [evidence('Pod/PodScheduled', condition.message ?? '')],
    ),
  );
}

export function ageSeconds(since: string | undefined, now: number): number {
  return since === undefined || since === '' ? 0 : (now - Date.parse(since)) / 1000;
}
