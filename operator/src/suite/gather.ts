import { InvalidResourceError, LABELS, expandMatrix, parseEvaluation, parseEvaluationSuite } from '@crucible/crds';
import type { Cell, EvaluationSuite } from '@crucible/crds';
import type { RunPlace, SuiteRecord, SuiteRepository, SuiteRunRecord } from '@crucible/storage';
import { isUnavailable } from '@crucible/storage';
import { admit } from '../evaluation/admission.ts';
import type { Refusal } from '../evaluation/admission.ts';
import { isDeleting } from '../evaluation/objects.ts';
import type { Namespace } from '../evaluation/objects.ts';
import type { Settings } from '../evaluation/settings.ts';
import { conditionOf, isFinished } from '../evaluation/snapshot.ts';
import type { RawEvaluation } from '../evaluation/snapshot.ts';
import { asVerdict } from '../evaluation/view.ts';
import { EVALUATIONS, isNotFound } from '../kube/index.ts';
import type { KubeClient, KubeObject, ObjectCache } from '../kube/index.ts';
import { readRuntimes } from '../runtime/parsed.ts';
import { outcomeOf } from './aggregate.ts';
import { buildRun, placesOf, runName } from './run.ts';
import type { Obstacle, RawSuite, Run, RunState, SuiteSnapshot } from './snapshot.ts';

export interface SuiteGatherDependencies {
  readonly client: KubeClient;
  readonly caches: {
    readonly evaluations: ObjectCache<RawEvaluation>;
    readonly namespaces: ObjectCache<Namespace>;
    readonly runtimes: ObjectCache<KubeObject>;
    readonly runtimeClasses: ObjectCache<KubeObject>;
  };
  readonly suites: SuiteRepository;
  readonly settings: Settings;
  readonly now: () => number;
}

/** Reads everything that a decision about one suite is made from. */
export class SuiteGatherer {
  readonly #deps: SuiteGatherDependencies;
  #unavailableSince: number | undefined;

  constructor(deps: SuiteGatherDependencies) {
    this.#deps = deps;
  }

  async gather(key: string, raw: RawSuite, obstacle: Obstacle | undefined, signal: AbortSignal): Promise<SuiteSnapshot> {
    const { suite, invalid } = parse(raw);
    const uid = raw.metadata.uid ?? '';
    const record = await this.#record(uid);
    const known = record === undefined || record === 'unavailable' ? undefined : record;
    const { cells, samples } = suite === undefined ? await this.#recorded(known) : shapeOf(suite);
    const base = { key, raw, cells, obstacle };
    const rows = known === undefined ? [] : await this.#deps.suites.runs(uid);
    const runs = await this.#runs(raw, placesOf(cells.length, samples), rows, signal);
    const finished = record !== undefined && record !== 'unavailable' && record.finishedAt !== null;
    if (suite === undefined || finished || isDeleting(raw))
      return { ...base, suite, invalid, record, unavailableSince: this.#unavailableSince, refusal: undefined, runs };
    // Each cell makes another Evaluation; one is enough once all were looked at, for what they have in common may change.
    const wrong = record === undefined ? firstMistake(suite, cells) : undefined;
    const refusal = wrong === undefined ? this.#refusal(suite, cells) : undefined;
    return { ...base, suite: wrong === undefined ? suite : undefined, invalid: wrong, record, unavailableSince: this.#unavailableSince, refusal, runs };
  }

  async #record(uid: string): Promise<SuiteRecord | undefined | 'unavailable'> {
    try {
      const record = await this.#deps.suites.get(uid);
      this.#unavailableSince = undefined;
      return record;
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      this.#unavailableSince ??= this.#deps.now();
      return 'unavailable';
    }
  }

  /** What runs there are of one that cannot be read (any more). */
  async #recorded(record: SuiteRecord | undefined): Promise<Shape> {
    if (record === undefined) return { cells: [], samples: 0 };
    const cells = (await this.#deps.suites.cells(record.uid)).map((parameters) => Object.entries(parameters));
    return { cells, samples: cells.length === 0 ? 0 : Math.floor(record.total / cells.length) };
  }

  async #runs({ metadata, spec }: RawSuite, places: readonly RunPlace[], rows: readonly SuiteRunRecord[], signal: AbortSignal): Promise<Run[]> {
    const { name = '', namespace = '', uid = '' } = metadata;
    const expects = (spec as { template?: { spec?: { expect?: unknown } } } | undefined)?.template?.spec?.expect !== undefined;
    const known = new Map(rows.map((row) => [placeKey(row), row]));
    const found = places.map((place) => {
      const row = known.get(placeKey(place));
      const child = row?.evaluationName ?? runName({ name, uid }, place);
      const live = row?.outcome ? undefined : this.#live(namespace, child, uid, row);
      return { place, name: child, row, live };
    });
    const missing = found.filter(({ row, live }) => row !== undefined && row.outcome === null && live === undefined);
    const confirmed = await this.#confirm(namespace, uid, missing, signal);
    return found.map(({ place, name: child, row, live }) => {
      const now = confirmed.get(child);
      return { ...place, name: child, state: stateOf(place, now?.row ?? row, live ?? now?.live, expects) };
    });
  }

  /** Only what carries this suite's uid is a run of it; names are used again. */
  #live(namespace: string, name: string, suiteUid: string, row: SuiteRunRecord | undefined): RawEvaluation | undefined {
    return ofSuite(this.#deps.caches.evaluations.get(`${namespace}/${name}`), suiteUid, row);
  }

  /**
   * What the cache does not have is only missing when the API server says so: the cache may be behind. Then the record is
   * read once more, because the run may have ended between the two looks.
   */
  async #confirm(
    namespace: string,
    suiteUid: string,
    missing: readonly { name: string; row: SuiteRunRecord | undefined }[],
    signal: AbortSignal,
  ): Promise<Map<string, { live: RawEvaluation | undefined; row: SuiteRunRecord | undefined }>> {
    const seen = new Map<string, { live: RawEvaluation | undefined; row: SuiteRunRecord | undefined }>();
    for (const { name, row } of missing) {
      // Its end is in the record already: nothing else can be said of it.
      const ended = row?.evaluation?.finishedAt != null;
      const raw = ended
        ? undefined
        : await this.#deps.client.get<RawEvaluation>(EVALUATIONS, namespace, name, { signal }).catch(undefinedIfGone);
      seen.set(name, { live: ofSuite(raw, suiteUid, row), row });
    }
    if ([...seen.values()].every(({ live, row }) => live !== undefined || row?.evaluation?.finishedAt != null)) return seen;
    for (const row of await this.#deps.suites.runs(suiteUid)) {
      const entry = seen.get(row.evaluationName);
      if (entry !== undefined) entry.row = row;
    }
    return seen;
  }

  #refusal(suite: EvaluationSuite, cells: readonly Cell[]): Refusal | undefined {
    const { caches, settings } = this.#deps;
    const [first] = cells;
    if (first === undefined) return undefined;
    const facts = {
      namespace: caches.namespaces.get(suite.metadata.namespace ?? ''),
      ...readRuntimes(caches.runtimes.list()),
      runtimeClasses: caches.runtimeClasses.list().map(({ metadata }) => metadata.name ?? ''),
    };
    const admission = admit(buildRun(suite, { cell: 1, sample: 1 }, first), facts, settings);
    return admission.admitted ? undefined : admission;
  }
}

interface Shape {
  readonly cells: readonly Cell[];
  readonly samples: number;
}

function shapeOf({ spec }: EvaluationSuite): Shape {
  return { cells: expandMatrix(spec.matrix), samples: spec.samples ?? 1 };
}

const placeKey = ({ cell, sample }: RunPlace): string => `${cell}/${sample}`;

function parse(raw: RawSuite): { suite: EvaluationSuite | undefined; invalid: string | undefined } {
  try {
    return { suite: parseEvaluationSuite({ ...raw, status: undefined }), invalid: undefined };
  } catch (error) {
    if (!(error instanceof InvalidResourceError)) throw error;
    const invalid = `The spec cannot be read: ${error.problems.join('; ')}. Correct it and create the suite again.`;
    return { suite: undefined, invalid };
  }
}

/** The rules of an Evaluation, with the parameters of each cell in it. */
function firstMistake(suite: EvaluationSuite, cells: readonly Cell[]): string | undefined {
  for (const [index, cell] of cells.entries()) {
    try {
      parseEvaluation(buildRun(suite, { cell: index + 1, sample: 1 }, cell));
    } catch (error) {
      if (!(error instanceof InvalidResourceError)) throw error;
      return `The Evaluation of cell ${index + 1} would be refused: ${error.problems.join('; ')}. Correct spec.template or spec.matrix and create the suite again.`;
    }
  }
  return undefined;
}

function ofSuite(raw: RawEvaluation | undefined, suiteUid: string, row: SuiteRunRecord | undefined): RawEvaluation | undefined {
  if (raw?.metadata.labels?.[LABELS.suiteUid] !== suiteUid) return undefined;
  return row === undefined || row.evaluationUid === raw.metadata.uid ? raw : undefined;
}

function stateOf(
  place: RunPlace,
  row: SuiteRunRecord | undefined,
  live: RawEvaluation | undefined,
  expects: boolean,
): RunState {
  if (row === undefined && live === undefined) return { kind: 'absent' };
  const uid = row?.evaluationUid ?? live?.metadata.uid ?? '';
  const createdAt = row?.createdAt ?? new Date(live?.metadata.creationTimestamp ?? 0);
  if (row?.outcome != null) {
    const { outcome, verdictClass, attempts, finishedAt } = row;
    const result = { ...place, outcome, verdictClass, attempts: attempts ?? 0, finishedAt: finishedAt ?? createdAt };
    return { kind: 'finished', uid, recorded: 'ended', createdAt, result };
  }
  const recorded = row === undefined ? 'no' : 'added';
  const end = (live && endOfLive(live, expects)) ?? endOfRecord(row, expects);
  if (end !== undefined) return { kind: 'finished', uid, recorded, createdAt, result: { ...place, ...end } };
  if (live === undefined && row?.evaluation == null) {
    // Deleted before the operator had recorded anything of it: it never ran.
    const result = { ...place, outcome: 'Cancelled', verdictClass: null, attempts: 0, finishedAt: createdAt } as const;
    return { kind: 'finished', uid, recorded, createdAt, result };
  }
  const deletable = live !== undefined && !isDeleting(live);
  const cancelled = (live?.spec as { cancel?: boolean } | undefined)?.cancel === true;
  return { kind: 'unfinished', uid, recorded: row !== undefined, createdAt, ending: cancelled || !deletable, deletable };
}

type End = Pick<SuiteRunRecord, 'verdictClass'> & { outcome: ReturnType<typeof outcomeOf>; attempts: number; finishedAt: Date };

function endOfLive(live: RawEvaluation, expects: boolean): End | undefined {
  const { status } = live;
  const verdict = status?.verdict;
  if (!isFinished(live) || verdict === undefined) return undefined;
  const passed = conditionOf(live, 'Passed')?.status;
  const judged = { verdict, passed: passed === 'True' ? true : passed === 'False' ? false : null };
  return {
    outcome: outcomeOf(judged, expects),
    verdictClass: verdict.class,
    attempts: status?.attempts?.length ?? 0,
    finishedAt: new Date(status?.finishedAt ?? conditionOf(live, 'Finished')?.lastTransitionTime ?? 0),
  };
}

function endOfRecord(row: SuiteRunRecord | undefined, expects: boolean): End | undefined {
  const evaluation = row?.evaluation;
  if (evaluation == null || evaluation.finishedAt === null) return undefined;
  const verdict = asVerdict(evaluation.verdict) ?? { class: 'InternalError', attributableTo: 'Infrastructure' };
  return {
    outcome: outcomeOf({ verdict, passed: evaluation.passed }, expects),
    verdictClass: verdict.class,
    attempts: evaluation.attempts,
    finishedAt: evaluation.finishedAt,
  };
}

function undefinedIfGone(error: unknown): undefined {
  if (isNotFound(error)) return undefined;
  throw error;
}
