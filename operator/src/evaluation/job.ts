import {
  API_VERSION,
  CAPTURE_FINALIZER,
  DEFAULTS,
  LABELS,
  LAUNCHER_INIT_CONTAINER,
  LIMITS,
  SANDBOX_CONTAINER,
  SANDBOX_PATHS,
  formatBytes,
  formatCpu,
} from '@crucible/crds';
import type { KubeObject } from '../kube/index.ts';
import type { Run } from './admission.ts';
import { jobName, labelValue } from './names.ts';
import type { Patience, SandboxSettings } from './settings.ts';

// An attempt as Kubernetes objects: an immutable ConfigMap with the code and the launcher's settings, and a Job of one
// pod that meets every rule of the sandbox contract which can be seen in a pod's spec.

export interface AttemptIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly attempt: number;
}

/** What the attempt was allowed, for people who look at Job or pod. Decided by the row: users may write annotations. */
export const TIMEOUT_ANNOTATION = 'crucible.dev/timeout-seconds';

/** What admission compares the pod with: a webhook that changes image or RuntimeClass would go unnoticed otherwise. */
export const IMAGE_ANNOTATION = 'crucible.dev/image';
export const LAUNCHER_IMAGE_ANNOTATION = 'crucible.dev/launcher-image';
export const RUNTIME_CLASS_ANNOTATION = 'crucible.dev/runtime-class';

/** Of the leader that made it. The API server cannot refuse one that only believes that it leads; its successor can see it. */
export const EPOCH_ANNOTATION = 'crucible.dev/epoch';

// Whatever becomes of the launcher, the pod is gone by timeout + grace + 5 s: the deadline comes a second after the
// launcher's own, polite timeout, the kubelet waits for the grace and two seconds more, and two are left for its own
// rounding and delay.
/** After SIGKILL the launcher still sends artifacts, for a second (closing in launcher/…/run.go), and its summary. */
const LAUNCHER_CLOSING_SECONDS = 2;
const DEADLINE_MARGIN_SECONDS = 1;
/** A program can be refused a file larger than its disk before the disk is full; small disks still allow logs. */
const MIN_FILE_SIZE_BYTES = 16 * 1024 * 1024;
const LAUNCHER_VOLUME_BYTES = 16 * 1024 * 1024;

export function attemptLabels(identity: AttemptIdentity): Record<string, string> {
  return {
    [LABELS.evaluationUid]: identity.uid,
    [LABELS.evaluation]: labelValue(identity.name),
    [LABELS.attempt]: String(identity.attempt),
    'app.kubernetes.io/managed-by': 'crucible',
    'app.kubernetes.io/component': 'sandbox',
  };
}

export function buildConfigMap(run: Run, identity: AttemptIdentity, settings: SandboxSettings): KubeObject {
  const data: Record<string, string> = { 'launcher.json': JSON.stringify(launcherSettings(run, settings)) };
  const binaryData: Record<string, string> = {};
  run.files.forEach(({ path, content, base64 }, index) => {
    if (content !== undefined) data[`f${index}`] = content;
    else if (base64 !== undefined) binaryData[`f${index}`] = base64;
    else throw new Error(`file ${path} has not been read from its ConfigMap`);
  });
  if (run.stdin !== undefined) data['stdin'] = run.stdin;
  const configMap: KubeObject & { immutable: boolean; data: object; binaryData?: object } = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: jobName(identity, identity.attempt),
      namespace: identity.namespace,
      labels: attemptLabels(identity),
      // Unlike the Job it may go with the Evaluation at any time: a mounted, immutable one is not read again.
      ownerReferences: [{ apiVersion: API_VERSION, kind: 'Evaluation', name: identity.name, uid: identity.uid }],
    },
    immutable: true,
    data,
    ...(Object.keys(binaryData).length > 0 && { binaryData }),
  };
  return configMap;
}

/** What the launcher reads; it refuses a field it does not know. */
export function launcherSettings(run: Run, settings: SandboxSettings): object {
  return {
    version: 1,
    command: run.command,
    cwd: SANDBOX_PATHS.work,
    env: run.env,
    ...(run.stdin !== undefined && { stdinPath: SANDBOX_PATHS.stdin }),
    timeoutSeconds: run.timeoutSeconds,
    graceSeconds: settings.graceSeconds,
    maxStreamBytes: run.streamBytes,
    maxEmittedBytes: LIMITS.emittedBytes,
    ...(run.artifacts && { artifacts: { ...run.artifacts, maxFiles: DEFAULTS.artifactFiles } }),
    limits: {
      fileSizeBytes: Math.max(run.diskBytes, MIN_FILE_SIZE_BYTES),
      processes: settings.processes,
      openFiles: settings.openFiles,
    },
  };
}

/** The pod's deadline before the container runs: it counts from the pod's start, image pull included. */
export function initialDeadlineSeconds(timeoutSeconds: number, patience: Patience): number {
  return patience.startUp + timeoutSeconds + DEADLINE_MARGIN_SECONDS;
}

/**
 * The deadline once the container runs, from the moments the kubelet noted. Never more than the current one: the API
 * only allows lowering.
 */
export function runningDeadlineSeconds(podStart: string, containerStart: string, timeoutSeconds: number): number {
  const startUp = Math.max(0, Math.ceil((Date.parse(containerStart) - Date.parse(podStart)) / 1000));
  return startUp + timeoutSeconds + DEADLINE_MARGIN_SECONDS;
}

/** The terms that an attempt's row has too, and by which its receipt is judged. */
export interface JobTerms {
  readonly image: string;
  readonly runtimeClass: string | null;
  readonly timeoutSeconds: number | null;
}

/**
 * Whether a Job is what the row says. One that somebody made who no longer led, or in a try of long ago, may be of a runtime as
 * it was then. What a Job does not say counts as fitting: it was made before that was written on it.
 */
export function hasTermsOf({ metadata: { annotations = {} } }: KubeObject, { image, runtimeClass, timeoutSeconds }: JobTerms): boolean {
  const wanted = {
    [IMAGE_ANNOTATION]: image,
    [RUNTIME_CLASS_ANNOTATION]: runtimeClass ?? '',
    ...(timeoutSeconds !== null && { [TIMEOUT_ANNOTATION]: String(timeoutSeconds) }),
  };
  return Object.entries(wanted).every(([name, value]) => annotations[name] === undefined || annotations[name] === value);
}

export interface JobInputs {
  readonly run: Run;
  readonly identity: AttemptIdentity;
  /** This attempt's own uid and gid. */
  readonly sandboxUid: number;
  readonly settings: SandboxSettings;
  readonly patience: Patience;
}

export function buildJob(inputs: JobInputs): KubeObject {
  const { run, identity } = inputs;
  const labels = attemptLabels(identity);
  const annotations = {
    [TIMEOUT_ANNOTATION]: String(run.timeoutSeconds),
    [IMAGE_ANNOTATION]: run.image,
    ...(!run.launcherIncluded && { [LAUNCHER_IMAGE_ANNOTATION]: inputs.settings.launcherImage }),
    [RUNTIME_CLASS_ANNOTATION]: run.runtimeClassName ?? '',
  };
  const job: KubeObject & { spec: object } = {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: jobName(identity, identity.attempt),
      namespace: identity.namespace,
      labels: { ...labels, ...(run.queue !== undefined && { [LABELS.kueueQueue]: run.queue }) },
      annotations,
      // No owner reference yet: foreground deletion of the Evaluation would take the running pod and its log with it.
    },
    spec: {
      // No retries and no deadline here: both delete pods, and logs with them. A retry is a new attempt with its own
      // Job.
      // Kueue starts it, and only then are there pods.
      ...(run.queue !== undefined && { suspend: true }),
      backoffLimit: 0,
      completions: 1,
      parallelism: 1,
      podReplacementPolicy: 'Failed',
      template: {
        metadata: { labels: { ...labels, [LABELS.sandbox]: 'true' }, annotations, finalizers: [CAPTURE_FINALIZER] },
        spec: podSpec(inputs),
      },
    },
  };
  return job;
}

function podSpec({ run, identity, sandboxUid, settings, patience }: JobInputs): object {
  const configMap = jobName(identity, identity.attempt);
  const items = codeItems(run);
  return {
    restartPolicy: 'Never',
    activeDeadlineSeconds: initialDeadlineSeconds(run.timeoutSeconds, patience),
    terminationGracePeriodSeconds: settings.graceSeconds + LAUNCHER_CLOSING_SECONDS,
    ...(run.runtimeClassName !== undefined && { runtimeClassName: run.runtimeClassName }),
    serviceAccountName: settings.serviceAccountName,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...(settings.imagePullSecrets.length > 0 && {
      imagePullSecrets: settings.imagePullSecrets.map((name) => ({ name })),
    }),
    // Nothing listens there: a look-up fails at once, and no resolver of the node or the cluster is ever named in the
    // sandbox.
    dnsPolicy: 'None',
    dnsConfig: { nameservers: ['127.0.0.1'] },
    securityContext: {
      runAsNonRoot: true,
      runAsUser: sandboxUid,
      runAsGroup: sandboxUid,
      ...(settings.strictSupplementalGroups && { supplementalGroupsPolicy: 'Strict' }),
      seccompProfile: { type: 'RuntimeDefault' },
    },
    ...(!run.launcherIncluded && { initContainers: [launcherInstaller(settings)] }),
    containers: [sandboxContainer(run, settings)],
    volumes: [
      ...(items.length > 0 ? [{ name: 'code', configMap: { name: configMap, defaultMode: 0o444, items } }] : []),
      {
        name: 'config',
        configMap: { name: configMap, defaultMode: 0o444, items: [{ key: 'launcher.json', path: 'launcher.json' }] },
      },
      tmpfs('work', run.diskBytes),
      tmpfs('tmp', settings.tmpBytes),
      tmpfs('shm', settings.shmBytes),
      ...(run.launcherIncluded ? [] : [tmpfs('launcher', LAUNCHER_VOLUME_BYTES)]),
    ],
  };
}

// Empty `items` would mount every key, launcher.json among them: a run without code, files and stdin has no such
// volume.
function codeItems(run: Run): { key: string; path: string }[] {
  const items = run.files.map((file, index) => ({ key: `f${index}`, path: file.path }));
  if (run.stdin !== undefined) items.push({ key: 'stdin', path: '.stdin' });
  return items;
}

function sandboxContainer(run: Run, settings: SandboxSettings): object {
  const folder = (path: string): string => path.slice(0, path.lastIndexOf('/'));
  return {
    name: SANDBOX_CONTAINER,
    image: run.image,
    imagePullPolicy: settings.imagePullPolicy,
    command: [SANDBOX_PATHS.launcher, 'run', SANDBOX_PATHS.settings],
    workingDir: SANDBOX_PATHS.work,
    resources: sandboxResources(run, settings),
    securityContext: containerSecurity(),
    // On the node's disk, and never read once code has run: put where the code cannot open it.
    terminationMessagePath: SANDBOX_PATHS.terminationMessage,
    terminationMessagePolicy: 'File',
    volumeMounts: [
      ...(codeItems(run).length > 0 ? [{ name: 'code', mountPath: SANDBOX_PATHS.code, readOnly: true }] : []),
      { name: 'config', mountPath: folder(SANDBOX_PATHS.settings), readOnly: true },
      { name: 'work', mountPath: SANDBOX_PATHS.work },
      { name: 'tmp', mountPath: '/tmp' },
      // With the slash: gVisor's shim replaces a mount at exactly /dev/shm by one of its own, without a size.
      { name: 'shm', mountPath: SANDBOX_PATHS.sharedMemory },
      ...(run.launcherIncluded
        ? []
        : [{ name: 'launcher', mountPath: folder(SANDBOX_PATHS.launcher), readOnly: true }]),
    ],
  };
}

function launcherInstaller(settings: SandboxSettings): object {
  const resources = { cpu: '100m', memory: '32Mi', 'ephemeral-storage': '1Mi' };
  return {
    name: LAUNCHER_INIT_CONTAINER,
    image: settings.launcherImage,
    imagePullPolicy: settings.imagePullPolicy,
    // The image's entry point is the launcher, outside of /crucible/bin: the mount would hide it there.
    args: ['install', SANDBOX_PATHS.launcher],
    resources: { limits: resources, requests: { ...resources, cpu: '10m' } },
    securityContext: containerSecurity(),
    volumeMounts: [
      { name: 'launcher', mountPath: SANDBOX_PATHS.launcher.slice(0, SANDBOX_PATHS.launcher.lastIndexOf('/')) },
    ],
  };
}

function containerSecurity(): object {
  return {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    privileged: false,
    capabilities: { drop: ['ALL'] },
  };
}

function sandboxResources(run: Run, settings: SandboxSettings): object {
  const launcherVolume = run.launcherIncluded ? 0 : LAUNCHER_VOLUME_BYTES;
  // tmpfs counts as the container's memory: without its share a full disk would look like a memory leak.
  const memory = formatBytes(
    run.memoryBytes +
      run.diskBytes +
      settings.tmpBytes +
      settings.shmBytes +
      launcherVolume +
      settings.memoryOverheadBytes,
  );
  const storage = formatBytes(settings.ephemeralStorageBytes);
  const cpuRequest = formatCpu(Math.max(1, Math.ceil((run.cpuMilli * settings.cpuRequestPercent) / 100)));
  return {
    limits: { cpu: formatCpu(run.cpuMilli), memory, 'ephemeral-storage': storage },
    requests: { cpu: cpuRequest, memory, 'ephemeral-storage': storage },
  };
}

function tmpfs(name: string, bytes: number): object {
  return { name, emptyDir: { medium: 'Memory', sizeLimit: formatBytes(bytes) } };
}
