import { DEFAULTS, DEFAULT_ENTRY_FILE, SANDBOX_PATHS } from './constants.ts';
import { formatBytes, formatCpu, parseBytes, parseCpu } from './quantity.ts';
import type { Quantity } from './quantity.ts';
import type { EvaluationRuntimeSpec } from './schema/evaluation-runtime.ts';
import type { EvaluationSpec, Expectation, Resources } from './schema/evaluation-spec.ts';

/** An Evaluation with every default filled in and every unit parsed: all that a Job needs to be built. */
export interface EffectiveSpec {
  readonly image: string;
  /** The complete argument vector: the runtime's command, the entry file's path, then spec.args. */
  readonly command: readonly string[];
  readonly launcher: 'Included' | 'Injected';
  /** The entry file first, then spec.files; paths relative to /crucible/code. */
  readonly files: readonly { readonly path: string; readonly content: string }[];
  readonly stdin?: string;
  readonly env: Readonly<Record<string, string>>;
  readonly resources: EffectiveResources;
  readonly timeoutSeconds: number;
  readonly runtimeClassName?: string;
  readonly output: { readonly maxBytes: number };
  readonly artifacts?: { readonly paths: readonly string[]; readonly maxBytes: number; readonly maxFiles: number };
  readonly retry: { readonly limit: number; readonly on: readonly ('Infrastructure' | 'Any')[] };
  readonly priority: number;
  readonly queue?: string;
  readonly expect?: Expectation & { readonly exitCode: number };
}

export interface EffectiveResources {
  readonly cpuMilli: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

/** What the installation says where neither the Evaluation nor its runtime does. */
export interface InstallationDefaults {
  readonly runtimeClassName?: string;
  readonly maximum?: EvaluationRuntimeSpec['maximum'];
}

/** Each violation is a sentence that says what to change in the Evaluation. */
export type EffectiveSpecResult =
  | { readonly ok: true; readonly spec: EffectiveSpec }
  | { readonly ok: false; readonly violations: readonly string[] };

/**
 * Merges an Evaluation with its runtime and the installation's defaults. `runtime` is undefined exactly when the
 * Evaluation uses spec.image. What only the cluster knows (does the RuntimeClass exist?) is not judged here.
 */
export function effectiveSpec(
  spec: EvaluationSpec,
  runtime: EvaluationRuntimeSpec | undefined,
  installation: InstallationDefaults = {},
): EffectiveSpecResult {
  const limits = [runtime?.maximum, installation.maximum].filter((maximum) => maximum !== undefined);
  const ceilings = limits.map((maximum) => maximum.resources ?? {});
  const resources = effectiveResources(spec.resources, runtime?.default?.resources, ceilings);
  const timeouts = limits.map((maximum) => maximum.timeoutSeconds ?? Number.POSITIVE_INFINITY);
  const timeoutSeconds =
    spec.timeoutSeconds ?? Math.min(runtime?.default?.timeoutSeconds ?? DEFAULTS.timeoutSeconds, ...timeouts);
  const violations = [
    ...limits.flatMap((maximum) => resourceViolations(resources, maximum.resources)),
    ...limits.flatMap((maximum) => timeoutViolations(timeoutSeconds, maximum.timeoutSeconds)),
    ...runtimeClassViolations(spec, runtime),
    ...entryFileViolations(spec, runtime),
  ];
  if (violations.length > 0) return { ok: false, violations: [...new Set(violations)] };
  return { ok: true, spec: merge(spec, runtime, installation, resources, timeoutSeconds) };
}

function merge(
  spec: EvaluationSpec,
  runtime: EvaluationRuntimeSpec | undefined,
  installation: InstallationDefaults,
  resources: EffectiveResources,
  timeoutSeconds: number,
): EffectiveSpec {
  const runtimeClassName =
    spec.isolation?.runtimeClassName ?? runtime?.runtimeClassName ?? installation.runtimeClassName;
  const { stdin, artifacts, queue, expect } = spec;
  return {
    ...program(spec, runtime),
    resources,
    timeoutSeconds,
    env: Object.fromEntries([...(runtime?.env ?? []), ...(spec.env ?? [])].map(({ name, value }) => [name, value])),
    output: { maxBytes: parseBytes(spec.output?.maxBytes ?? DEFAULTS.streamBytes) },
    retry: { limit: spec.retry?.limit ?? 0, on: spec.retry?.on ?? spec.retry?.true ?? ['Infrastructure'] },
    priority: spec.priority ?? 0,
    ...(stdin !== undefined && { stdin }),
    ...(runtimeClassName !== undefined && { runtimeClassName }),
    ...(artifacts !== undefined && { artifacts: effectiveArtifacts(artifacts) }),
    ...(queue !== undefined && { queue }),
    ...(expect !== undefined && { expect: { ...expect, exitCode: expect.exitCode ?? 0 } }),
  };
}

type Program = Pick<EffectiveSpec, 'image' | 'command' | 'launcher' | 'files'>;

function program(spec: EvaluationSpec, runtime: EvaluationRuntimeSpec | undefined): Program {
  const args = spec.args ?? [];
  const entry = spec.code === undefined ? [] : [{ path: entryFile(runtime), content: spec.code }];
  const files = [...entry, ...(spec.files ?? [])];
  if (runtime === undefined) {
    if (spec.image === undefined || spec.command === undefined)
      throw new Error('an Evaluation without a runtime has image and command');
    return { image: spec.image, command: [...spec.command, ...args], launcher: 'Injected', files };
  }
  const command = [...runtime.command, `${SANDBOX_PATHS.code}/${runtime.entryFile}`, ...args];
  return { image: runtime.image, command, launcher: runtime.launcher, files };
}

const entryFile = (runtime: EvaluationRuntimeSpec | undefined): string => runtime?.entryFile ?? DEFAULT_ENTRY_FILE;

function effectiveArtifacts(
  artifacts: NonNullable<EvaluationSpec['artifacts']>,
): NonNullable<EffectiveSpec['artifacts']> {
  const { paths, maxBytes = DEFAULTS.artifactBytes } = artifacts;
  return { paths, maxBytes: parseBytes(maxBytes), maxFiles: DEFAULTS.artifactFiles };
}

/** What nobody asked for is lowered to the maximum; what the Evaluation asks for is not, it is refused. */
function effectiveResources(
  asked: Resources = {},
  fallback: Resources = {},
  ceilings: readonly Resources[],
): EffectiveResources {
  const pick = (kind: keyof Resources, parse: (quantity: Quantity) => number): number => {
    const wanted = asked[kind];
    if (wanted !== undefined) return parse(wanted);
    const maxima = ceilings.map((ceiling) => ceiling[kind]).filter((maximum) => maximum !== undefined);
    return Math.min(parse(fallback[kind] ?? DEFAULTS[kind]), ...maxima.map(parse));
  };
  return {
    cpuMilli: pick('cpu', parseCpu),
    memoryBytes: pick('memory', parseBytes),
    diskBytes: pick('disk', parseBytes),
  };
}

function resourceViolations(resources: EffectiveResources, maximum: Resources | undefined): string[] {
  const checks = [
    { kind: 'cpu', value: resources.cpuMilli, parse: parseCpu, format: formatCpu },
    { kind: 'memory', value: resources.memoryBytes, parse: parseBytes, format: formatBytes },
    { kind: 'disk', value: resources.diskBytes, parse: parseBytes, format: formatBytes },
  ] as const;
  return checks.flatMap(({ kind, value, parse, format }) => {
    const limit = maximum?.[kind];
    if (limit === undefined || value <= parse(limit)) return [];
    return [
      `spec.resources.${kind} is ${format(value)}, more than the ${format(parse(limit))} that are allowed: lower it`,
    ];
  });
}

function timeoutViolations(seconds: number, maximum: number | undefined): string[] {
  if (maximum === undefined || seconds <= maximum) return [];
  return [`spec.timeoutSeconds is ${seconds}, more than the ${maximum} that are allowed: lower it`];
}

/** The platform team's choice of isolation is not up to the Evaluation. */
function runtimeClassViolations(spec: EvaluationSpec, runtime: EvaluationRuntimeSpec | undefined): string[] {
  const asked = spec.isolation?.runtimeClassName;
  const required = runtime?.runtimeClassName;
  if (asked === undefined || required === undefined || asked === required) return [];
  return [
    `spec.isolation.runtimeClassName is ${asked}, but runtime ${spec.runtime} always uses ${required}: leave it out`,
  ];
}

function entryFileViolations(spec: EvaluationSpec, runtime: EvaluationRuntimeSpec | undefined): string[] {
  if (spec.code === undefined) return [];
  const entry = entryFile(runtime);
  const collides = (path: string): boolean =>
    path === entry || path.startsWith(`${entry}/`) || entry.startsWith(`${path}/`);
  const paths = (spec.files ?? []).map((file) => file.path).filter(collides);
  return paths.map(
    (path) => `spec.files has ${path}, which collides with the entry file ${entry} that holds spec.code: rename it`,
  );
}
