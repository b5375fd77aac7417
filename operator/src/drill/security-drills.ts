import { API_VERSION, FIELD_MANAGERS, clip, parseSecurityDrill } from '@crucible/crds';
import type { Condition, SecurityDrillSpec, SecurityDrillStatus } from '@crucible/crds';
import type { Logger } from 'pino';
import { SECURITY_DRILLS, isNotFound, keyOf } from '../kube/index.ts';
import type { KubeClient, KubeObject, ObjectCache } from '../kube/index.ts';
import type { Attack } from './attack.ts';
import { countOutcomes, scoreRules } from './attack.ts';
import { inParallel } from './parallel.ts';
import { CATALOGUE, QUICK } from './catalogue/index.ts';
import type { ClassResult } from './history.ts';
import type { DrillManager } from './manager.ts';

/** As many as the status has room for. */
const MAX_CLASSES = 9;
const CLASSES_AT_ONCE = 2;
const RETRY_MS = 15_000;

export interface RawDrill extends KubeObject {
  spec?: unknown;
  status?: SecurityDrillStatus;
}

export interface SecurityDrillDependencies {
  readonly client: KubeClient;
  readonly drills: ObjectCache<RawDrill>;
  readonly manager: Pick<DrillManager, 'run' | 'knownClasses' | 'requiredOf'>;
  readonly logger: Logger;
  readonly now: () => number;
}

/** Runs what SecurityDrill resources ask for, one after another, and writes the report into their status. */
export class SecurityDrills {
  readonly #deps: SecurityDrillDependencies;
  readonly #known = new Set<string>();
  #chain: Promise<void> = Promise.resolve();
  #abort: AbortController | undefined;

  constructor(deps: SecurityDrillDependencies) {
    this.#deps = deps;
    deps.drills.onChange((_, current) => current && this.#consider(current));
  }

  async start(): Promise<void> {
    this.#abort = new AbortController();
    this.#known.clear();
    for (const raw of this.#deps.drills.list()) this.#consider(raw);
  }

  async stop(): Promise<void> {
    this.#abort?.abort();
    this.#abort = undefined;
    await this.#chain;
  }

  #consider(raw: RawDrill): void {
    const signal = this.#abort?.signal;
    const uid = raw.metadata.uid ?? '';
    if (signal === undefined || this.#known.has(uid) || isFinished(raw)) return;
    this.#known.add(uid);
    this.#chain = this.#chain.then(async () => {
      if (signal.aborted) return;
      await this.#run(raw, signal).catch((error: unknown) => {
        this.#known.delete(uid);
        if (signal.aborted) return;
        this.#deps.logger.error({ err: error, drill: keyOf(raw) }, 'a SecurityDrill could not be carried out; it is tried again');
        setTimeout(() => this.#consider(this.#deps.drills.get(keyOf(raw)) ?? raw), RETRY_MS).unref();
      });
    });
  }

  async #run(raw: RawDrill, signal: AbortSignal): Promise<void> {
    const { manager, now } = this.#deps;
    const { spec } = parseSecurityDrill({
      apiVersion: raw.apiVersion,
      kind: raw.kind,
      metadata: raw.metadata,
      spec: raw.spec,
    });
    const attacks = spec.kind === 'Quick' ? QUICK : CATALOGUE;
    const startedAt = now();
    const wanted = classesOf(spec, manager.knownClasses());
    const [classes, left] = [wanted.slice(0, MAX_CLASSES), wanted.slice(MAX_CLASSES)];
    const judge = { required: (runtimeClass: string) => manager.requiredOf(runtimeClass || undefined), left };
    const found = new Map<string | undefined, ClassResult>();
    const results = (): ClassResult[] => classes.flatMap((runtimeClass) => found.get(runtimeClass) ?? []);
    await this.#write(raw, report([], attacks, raw, startedAt, undefined), signal);
    const work = classes.map((runtimeClass) => async () => {
      let result: ClassResult | undefined;
      // A class that was replaced while it was drilled is another one now, and drilled as that.
      while (result === undefined) {
        signal.throwIfAborted();
        result = await manager.run(runtimeClass, attacks, 'request');
      }
      found.set(runtimeClass, result);
      await this.#write(raw, report(results(), attacks, raw, startedAt, undefined), signal);
    });
    await inParallel(work, CLASSES_AT_ONCE);
    await this.#write(raw, report(results(), attacks, raw, startedAt, now(), judge), signal);
  }

  async #write(raw: RawDrill, status: SecurityDrillStatus, signal: AbortSignal): Promise<void> {
    const { name = '', uid = '' } = raw.metadata;
    const object = { apiVersion: API_VERSION, kind: 'SecurityDrill', metadata: { name, uid }, status };
    const options = { fieldManager: FIELD_MANAGERS.status, force: true, subresource: 'status', signal };
    try {
      await this.#deps.client.apply(SECURITY_DRILLS, object, options);
    } catch (error) {
      // Deleted while it ran: nobody wants the report any more.
      if (!isNotFound(error)) throw error;
    }
  }
}

function isFinished({ status }: RawDrill): boolean {
  return status?.conditions?.some(({ type, status: holds }) => type === 'Finished' && holds === 'True') ?? false;
}

export function classesOf(spec: SecurityDrillSpec, known: readonly (string | undefined)[]): (string | undefined)[] {
  const { runtimeClassNames, defaultRuntime } = spec;
  if (runtimeClassNames === undefined) {
    // Asked for by name, also where the configured default is another one.
    if (defaultRuntime === true) return [undefined];
    return known.filter((name) => defaultRuntime === undefined || name !== undefined);
  }
  return [...(defaultRuntime === true ? [undefined] : []), ...runtimeClassNames];
}

export interface Judge {
  /** Rules of a class ('': the default runtime) without which nothing is shown. */
  readonly required: (runtimeClass: string) => ReadonlySet<number>;
  /** Classes for which the report has no room. */
  readonly left: readonly (string | undefined)[];
}

/** The report so far, or the whole one. Pure. */
export function report(
  results: readonly ClassResult[],
  attacks: readonly Attack[],
  raw: Pick<RawDrill, 'metadata'>,
  startedAt: number,
  finishedAt: number | undefined,
  judge: Judge = { required: () => new Set(), left: [] },
): SecurityDrillStatus {
  const classes = results.map((result) => classReport(result, attacks));
  const sum = (kind: 'held' | 'broken' | 'open'): number => classes.reduce((total, one) => total + one[kind], 0);
  const counts = { held: sum('held'), broken: sum('broken'), open: sum('open') };
  const generation = raw.metadata.generation ?? 1;
  const condition = (type: string, status: 'True' | 'False', reason: string, message: string): Condition => ({
    type,
    status,
    observedGeneration: generation,
    lastTransitionTime: time(finishedAt ?? startedAt),
    reason,
    message: clip(message, 1024),
  });
  const base = { observedGeneration: generation, startedAt: time(startedAt), classes, ...counts };
  if (finishedAt === undefined) {
    const progress = 'Sandboxes are being attacked.';
    return {
      ...base,
      phase: 'Running',
      conditions: [
        condition('Ready', 'False', 'Running', progress),
        condition('Reconciling', 'True', 'Running', progress),
      ],
    };
  }
  const named = (kind: 'broken' | 'open', counts: (rule: number, runtimeClass: string) => boolean): string[] =>
    classes.flatMap(({ runtimeClassName, rules }) =>
      rules
        .filter(({ rule, outcome }) => outcome === kind && counts(rule, runtimeClassName))
        .map(({ rule }) => `rule ${rule} (${runtimeClassName || 'default'})`),
    );
  const broken = named('broken', () => true);
  const unshown = [
    ...named('open', (rule, runtimeClass) => judge.required(runtimeClass).has(rule)),
    ...judge.left.map((runtimeClass) => `${runtimeClass ?? 'default'} was not drilled, a report has room for ${MAX_CLASSES} classes: name it in another one`),
    ...(classes.length === 0 ? ['no RuntimeClass was drilled: there is none of those that were asked for'] : []),
  ];
  const text = `${counts.held} held, ${counts.broken} broken, ${counts.open} open`;
  const bad = broken.length > 0 ? broken : unshown;
  const message = bad.length === 0 ? text : `${text}: ${bad.join(', ')}`;
  const held = bad.length === 0;
  const phase = held ? 'Held' : broken.length > 0 ? 'Broken' : 'Failed';
  const reason = phase === 'Failed' ? 'Incomplete' : phase;
  return {
    ...base,
    phase,
    finishedAt: time(finishedAt),
    conditions: [
      condition('Finished', 'True', reason, message),
      condition('Held', held ? 'True' : 'False', reason, message),
      condition('Ready', held ? 'True' : 'False', reason, message),
      ...(held ? [] : [condition('Stalled', 'True', reason, message)]),
    ],
  };
}

function classReport({ id, runtimeClass, findings }: ClassResult, attacks: readonly Attack[]) {
  const title = (rule: number): string => attacks.find((attack) => attack.rule === rule)?.title ?? '';
  const rules = scoreRules(findings).map((score) => ({ ...score, title: title(score.rule) }));
  const shown = rules.map((rule) => ({ ...rule, title: clip(rule.title, 128), evidence: clip(rule.evidence, 512) }));
  return { runtimeClassName: runtimeClass ?? '', drillId: id, ...countOutcomes(rules), rules: shown };
}

function time(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\.\d{3}Z$/, 'Z');
}
