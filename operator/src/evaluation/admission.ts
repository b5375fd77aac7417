import { DEFAULTS, DEFAULT_ENTRY_FILE, LABELS, SANDBOX_PATHS, isOfDrill, parseBytes, parseCpu } from '@crucible/crds';
import type { Evaluation, EvaluationRuntime, EvaluationSpec, Resources } from '@crucible/crds';
import type { Namespace } from './objects.ts';
import type { Settings } from './settings.ts';

/** One run, with every default filled in: what job.ts needs and nothing else. */
export interface Run {
  readonly image: string;
  /** The whole argument vector. */
  readonly command: readonly string[];
  /** The image carries the launcher itself. */
  readonly launcherIncluded: boolean;
  readonly env: Readonly<Record<string, string>>;
  /** What comes from a ConfigMap has no content before inputs.ts has found it. */
  readonly files: readonly RunFile[];
  readonly stdin: string | undefined;
  readonly cpuMilli: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly timeoutSeconds: number;
  readonly streamBytes: number;
  readonly artifacts: { readonly paths: readonly string[]; readonly maxBytes: number } | undefined;
  readonly runtimeClassName: string | undefined;
  readonly queue: string | undefined;
}

export interface RunFile {
  readonly path: string;
  readonly content?: string | undefined;
  /** Of what is no text. */
  readonly base64?: string;
  readonly configMapRef?: { readonly name: string; readonly key: string } | undefined;
}

/**
 * Refused: nothing happens until something is changed. That may be outside of the Evaluation (a runtime is created, a
 * namespace enabled), so a refusal is no end: it is looked at again when one of those objects changes.
 */
export type Admission = { readonly admitted: true; readonly run: Run } | Refusal;
export interface Refusal {
  readonly admitted: false;
  readonly reason: string;
  /** Says what to change. */
  readonly message: string;
}

export interface ClusterFacts {
  readonly namespace: Namespace | undefined;
  readonly runtimes: readonly EvaluationRuntime[];
  /** What is wrong with those that cannot be read, by name. */
  readonly unreadableRuntimes?: ReadonlyMap<string, string>;
  readonly runtimeClasses: readonly string[];
  /** The handler of each, for receipts. */
  readonly runtimeHandlers?: ReadonlyMap<string, string>;
}

/** May this run, and as what? Pure. */
export function admit(evaluation: Evaluation, facts: ClusterFacts, settings: Settings): Admission {
  const { spec } = evaluation;
  const name = evaluation.metadata.namespace ?? '';
  const enabled = facts.namespace?.metadata.labels?.[LABELS.evaluations] === 'enabled';
  if (!enabled || !settings.evaluationNamespaces.includes(name)) {
    return refuse(
      'NamespaceNotEnabled',
      `Evaluations may not run in namespace "${name}". Create it in one that is enabled, or have an administrator add it to the chart's evaluationNamespaces.`,
    );
  }
  let runtime: EvaluationRuntime | undefined;
  if (spec.runtime !== undefined) {
    const usable = facts.runtimes.filter((candidate) => mayUse(evaluation, candidate));
    runtime = usable.find((candidate) => candidate.metadata.name === spec.runtime);
    const unreadable = facts.unreadableRuntimes?.get(spec.runtime);
    if (unreadable !== undefined)
      return refuse('RuntimeInvalid', `EvaluationRuntime "${spec.runtime}" cannot be used. ${unreadable} Use another one, or have a platform administrator correct it.`);
    if (runtime === undefined) return runtimeNotFound(spec.runtime, usable);
  }
  const runtimeClass = chooseRuntimeClass(spec, runtime, facts, settings);
  if ('admitted' in runtimeClass) return runtimeClass;
  if (spec.queue !== undefined && !settings.kueue)
    return refuse(
      'KueueNotEnabled',
      'spec.queue hands the run to Kueue, which this installation does not use. Leave it out of another Evaluation, or have an administrator set the chart’s kueue.enabled.',
    );
  const excess = runtime && overMaximum(spec, runtime);
  if (excess !== undefined) return refuse('ResourcesExceedRuntime', excess);
  return resolve(spec, runtime, runtimeClass.name);
}

/** The drill's own runtime has maxima of its own: it is nobody else's. Only the operator labels an Evaluation so. */
function mayUse({ metadata }: Evaluation, runtime: EvaluationRuntime): boolean {
  return !isOfDrill(runtime.metadata) || isOfDrill(metadata);
}

function refuse(reason: string, message: string): Refusal {
  return { admitted: false, reason, message };
}

function runtimeNotFound(wanted: string, runtimes: readonly EvaluationRuntime[]): Refusal {
  const known = runtimes
    .map((runtime) => runtime.metadata.name)
    .sort()
    .slice(0, 20);
  const choice = known.length === 0 ? 'The cluster has none yet' : `Known ones: ${known.join(', ')}`;
  return refuse(
    'RuntimeNotFound',
    `There is no EvaluationRuntime "${wanted}". ${choice}. Use one of those in another Evaluation, or have a platform administrator create it.`,
  );
}

// Isolation only tightens: a runtime that names a class has decided, and a class that is missing is never replaced by a
// weaker one.
function chooseRuntimeClass(
  spec: EvaluationSpec,
  runtime: EvaluationRuntime | undefined,
  facts: ClusterFacts,
  settings: Settings,
): Refusal | { name: string | undefined } {
  const wanted = spec.isolation?.runtimeClassName;
  const fixed = runtime?.spec.runtimeClassName;
  if (fixed !== undefined && wanted !== undefined && wanted !== fixed) {
    return refuse(
      'RuntimeClassNotAllowed',
      `Runtime "${spec.runtime}" always uses RuntimeClass "${fixed}". Leave spec.isolation.runtimeClassName out of another Evaluation, or set it to that.`,
    );
  }
  const name = wanted ?? fixed ?? settings.sandbox.runtimeClassName;
  if (name !== undefined && !facts.runtimeClasses.includes(name)) {
    const known = [...facts.runtimeClasses].sort().slice(0, 20).join(', ') || 'none';
    return refuse(
      'RuntimeClassNotFound',
      `The cluster has no RuntimeClass "${name}" (it has: ${known}), and Crucible never falls back to another. Use one of those in another Evaluation, or have it installed.`,
    );
  }
  return { name };
}

function overMaximum(spec: EvaluationSpec, runtime: EvaluationRuntime): string | undefined {
  const { maximum } = runtime.spec;
  const remedy = (field: string, most: string | number): string =>
    `spec.${field} is more than runtime "${spec.runtime}" allows. Set it to at most ${most} in another Evaluation.`;
  for (const kind of ['cpu', 'memory', 'disk'] as const) {
    const most = maximum?.resources?.[kind];
    const wanted = spec.resources?.[kind];
    const parse = kind === 'cpu' ? parseCpu : parseBytes;
    if (most !== undefined && wanted !== undefined && parse(wanted) > parse(most))
      return remedy(`resources.${kind}`, most);
  }
  const most = maximum?.timeoutSeconds;
  if (most !== undefined && spec.timeoutSeconds !== undefined && spec.timeoutSeconds > most)
    return remedy('timeoutSeconds', most);
  return undefined;
}

function resolve(
  spec: EvaluationSpec,
  runtime: EvaluationRuntime | undefined,
  runtimeClassName: string | undefined,
): Admission {
  const entry = runtime?.spec.entryFile ?? DEFAULT_ENTRY_FILE;
  const files = [...(spec.code === undefined ? [] : [{ path: entry, content: spec.code }]), ...(spec.files ?? [])];
  const clash = (spec.files ?? []).find(
    ({ path }) => path === entry || path.startsWith(`${entry}/`) || entry.startsWith(`${path}/`),
  );
  if (spec.code !== undefined && clash !== undefined) {
    return refuse(
      'InvalidSpec',
      `spec.files has a path "${clash.path}", which is where spec.code goes ("${entry}"). Give that file another path.`,
    );
  }
  const limits = limitsOf(spec, runtime);
  return {
    admitted: true,
    run: {
      image: runtime?.spec.image ?? spec.image ?? '',
      command: [
        ...(runtime === undefined ? (spec.command ?? []) : [...runtime.spec.command, `${SANDBOX_PATHS.code}/${entry}`]),
        ...(spec.args ?? []),
      ],
      launcherIncluded: runtime?.spec.launcher === 'Included',
      env: Object.fromEntries(
        [...(runtime?.spec.env ?? []), ...(spec.env ?? [])].map(({ name, value }) => [name, value]),
      ),
      files,
      stdin: spec.stdin,
      ...limits,
      streamBytes: parseBytes(spec.output?.maxBytes ?? DEFAULTS.streamBytes),
      artifacts: spec.artifacts && {
        paths: spec.artifacts.paths,
        maxBytes: parseBytes(spec.artifacts.maxBytes ?? DEFAULTS.artifactBytes),
      },
      runtimeClassName,
      queue: spec.queue,
    },
  };
}

// What the Evaluation asks for, else the runtime's default, else Crucible's own, cut to the runtime's maximum: a small
// runtime needs no `default` beside its `maximum`.
function limitsOf(
  spec: EvaluationSpec,
  runtime: EvaluationRuntime | undefined,
): Pick<Run, 'cpuMilli' | 'memoryBytes' | 'diskBytes' | 'timeoutSeconds'> {
  const { default: fallback, maximum } = runtime?.spec ?? {};
  const size = (kind: keyof Resources, parse: (value: string | number) => number): number => {
    const asked = parse(spec.resources?.[kind] ?? fallback?.resources?.[kind] ?? DEFAULTS[kind]);
    const most = maximum?.resources?.[kind];
    return most === undefined ? asked : Math.min(asked, parse(most));
  };
  return {
    cpuMilli: size('cpu', parseCpu),
    memoryBytes: size('memory', parseBytes),
    diskBytes: size('disk', parseBytes),
    timeoutSeconds: Math.min(
      spec.timeoutSeconds ?? fallback?.timeoutSeconds ?? DEFAULTS.timeoutSeconds,
      maximum?.timeoutSeconds ?? Number.POSITIVE_INFINITY,
    ),
  };
}
