// Names that the operator, the API, the chart and users' scripts agree on. Changing one is a breaking change.

export const GROUP = 'crucible.dev';
export const VERSION = 'v1alpha1';
export const API_VERSION = `${GROUP}/${VERSION}` as const;

export const LABELS = {
  /** "true" on every sandbox pod: policies and admission select on it. */
  sandbox: 'crucible.dev/sandbox',
  /** metadata.uid of the Evaluation: the identity of everything that belongs to it. */
  evaluationUid: 'crucible.dev/evaluation-uid',
  /** metadata.name of the Evaluation, for people and selectors; never trusted as identity. */
  evaluation: 'crucible.dev/evaluation',
  /** The attempt's number, from "1". */
  attempt: 'crucible.dev/attempt',
  /** On namespaces: "enabled" where Evaluations may run. */
  evaluations: 'crucible.dev/evaluations',
  /** metadata.uid of the EvaluationSuite, on its Evaluations: whose run it is. */
  suiteUid: 'crucible.dev/suite-uid',
  /** metadata.name of the EvaluationSuite, for people and selectors; never trusted as identity. */
  suite: 'crucible.dev/suite',
  /** Which cell of the matrix, from "1". */
  suiteCell: 'crucible.dev/suite-cell',
  /** Which sample of the cell, from "1". */
  suiteSample: 'crucible.dev/suite-sample',
  /** On Evaluations that a drill makes: the drill's id. Set by the operator only. On an EvaluationRuntime: for the drill alone. */
  drill: 'crucible.dev/drill',
  /** "true" on ConfigMaps: their owner lets Evaluations of the namespace read them, whoever wrote those. */
  input: 'crucible.dev/input',
  /** Kueue's label on Jobs, set from spec.queue. */
  kueueQueue: 'kueue.x-k8s.io/queue-name',
} as const;

/** What only the drill makes or uses. */
export function isOfDrill({ labels }: { readonly labels?: Readonly<Record<string, string>> | undefined }): boolean {
  return labels?.[LABELS.drill] !== undefined;
}

/** One finalizer name for the Evaluation and for its pods: nothing goes before its output is captured. */
export const CAPTURE_FINALIZER = 'crucible.dev/capture';

/** A ConfigMap of this name with data.paused "true" stops new runs: in Crucible's own namespace all, else those there. */
export const PAUSE_CONFIG_MAP = 'crucible-pause';

/** On an EvaluationSuite: it goes only when all of its runs have ended and their results are in the record. */
export const SUITE_FINALIZER = 'crucible.dev/suite';

export const FIELD_MANAGERS = { objects: 'crucible-operator', status: 'crucible-operator-status' } as const;

export const SANDBOX_CONTAINER = 'sandbox';
export const LAUNCHER_INIT_CONTAINER = 'launcher';

/** Where things are inside a sandbox. */
export const SANDBOX_PATHS = {
  launcher: '/crucible/bin/launcher',
  settings: '/crucible/config/launcher.json',
  code: '/crucible/code',
  stdin: '/crucible/code/.stdin',
  work: '/work',
  sharedMemory: '/dev/shm/',
  /** In a folder that only root enters. */
  terminationMessage: '/crucible/bin/.sealed/message',
} as const;

/** The entry file's name when spec.image is used instead of a runtime. */
export const DEFAULT_ENTRY_FILE = 'main';

const KI = 1024;
const MI = 1024 * KI;

export const LIMITS = {
  /** code, files and stdin together. Client-side apply stores a second copy in an annotation of at most 256 KiB. */
  sourceBytes: 128 * KI,
  /** Of spec.files from ConfigMaps, together: with all the rest they fit into the one ConfigMap of an attempt. */
  referencedBytes: 512 * KI,
  /** command, args and env together: they travel in one ConfigMap beside the code. */
  argumentBytes: 64 * KI,
  /** What one run may emit in all, so that the kubelet's 10 MiB log file is never rotated. */
  emittedBytes: 8 * MI,
  timeoutSeconds: 86_400,
  retries: 10,
  /** status.output.tail, so that the whole status stays under 16 KiB. */
  tailCharacters: 2048,
  stderrTailCharacters: 1024,
  messageCharacters: 1024,
  attemptMessageCharacters: 256,
  queueMessageCharacters: 512,
  /** Evaluations of one suite: all combinations before excludes, and includes, times samples. */
  suiteRuns: 1000,
  suiteParallelism: 100,
  suiteParameters: 6,
  suiteParameterValues: 100,
  /** Entries of matrix.include, and of matrix.exclude. */
  suiteMatrixEntries: 32,
  suiteMessageCharacters: 512,
} as const;

export const DEFAULTS = {
  cpu: '1',
  memory: '256Mi',
  disk: '64Mi',
  timeoutSeconds: 60,
  graceSeconds: 5,
  streamBytes: 1 * MI,
  artifactBytes: 4 * MI,
  artifactFiles: 1000,
  suiteParallelism: 10,
  suiteMinPassPercent: 100,
} as const;

export const PHASES = ['Queued', 'Starting', 'Running', 'Capturing', 'Succeeded', 'Failed', 'Cancelled'] as const;

export const VERDICT_CLASSES = [
  'Succeeded',
  'NonZeroExit',
  'Signalled',
  'TimedOut',
  'OutOfMemory',
  'DiskExceeded',
  'PidsExceeded',
  'Evicted',
  'Preempted',
  'NodeLost',
  'ImagePullFailed',
  'InvalidImage',
  'Unschedulable',
  'QuotaExceeded',
  'SandboxRefused',
  'Cancelled',
  'InternalError',
] as const;

export const ATTRIBUTIONS = ['Code', 'Infrastructure', 'Policy', 'User'] as const;
export const CONFIDENCES = ['Confirmed', 'Probable'] as const;
export const RETRY_CAUSES = ['Infrastructure', 'Any'] as const;

export const SUITE_PHASES = ['Pending', 'Running', 'Cancelling', 'Succeeded', 'Failed', 'Cancelled'] as const;

/** What a pipeline can wait on. Finished is either way; Ready, Reconciling and Stalled are for kstatus. */
export const CONDITIONS = [
  'Accepted',
  'Started',
  'Captured',
  'Complete',
  'Failed',
  'Finished',
  'Passed',
  'Contained',
  'Ready',
  'Reconciling',
  'Stalled',
] as const;
