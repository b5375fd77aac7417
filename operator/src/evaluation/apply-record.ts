import type { AcceptedEvaluation, AttemptRepository, Database, EvaluationRepository, Transaction } from '@crucible/storage';
import { WaitingError } from '../controller/index.ts';
import type { Action } from './actions.ts';
import type { Namespace } from './objects.ts';
import { jobName } from './names.ts';
import type { RawEvaluation, Snapshot } from './snapshot.ts';

export interface RecordDependencies {
  readonly database: Pick<Database, 'transaction'>;
  readonly evaluations: EvaluationRepository;
  readonly attempts: AttemptRepository;
  /** The leader's epoch, the fence of every write to the record. */
  readonly epoch: () => number;
}

/** What a plan writes to the record in more than one statement, each in one transaction. */
export class RecordWriter {
  readonly #deps: RecordDependencies;

  constructor(deps: RecordDependencies) {
    this.#deps = deps;
  }

  async evaluation(snapshot: Snapshot, phase: string, tx?: Transaction): Promise<void> {
    await this.#deps.evaluations.upsertAccepted(this.#accepted(snapshot, phase), tx);
  }

  #accepted(snapshot: Snapshot, phase: string): AcceptedEvaluation {
    const { generation = 1, labels } = snapshot.raw.metadata;
    return {
      ...identityOf(snapshot.raw, snapshot.cluster.namespace),
      generation,
      spec: snapshot.raw.spec as object,
      ...(labels && { labels }),
      phase,
      epoch: this.#deps.epoch(),
    };
  }

  async attempt(
    snapshot: Snapshot,
    { number, run, risks, inputs }: Extract<Action, { type: 'recordAttempt' }>,
  ): Promise<void> {
    const { uid = '', name = '' } = snapshot.raw.metadata;
    const epoch = this.#deps.epoch();
    const attempt = {
      evaluationUid: uid,
      number,
      jobName: jobName({ name, uid }, number),
      image: run.image,
      runtimeClass: run.runtimeClassName ?? null,
      timeoutSeconds: run.timeoutSeconds,
      ...(risks.length > 0 && { acceptedRisks: risks.map(({ rules, reason }) => ({ rules, reason })) }),
      ...(inputs.length > 0 && { inputs }),
      epoch,
    };
    const { evaluation: known, assumed } = snapshot.record === 'unavailable' ? { evaluation: undefined } : snapshot.record;
    if (known === undefined && (await this.#deps.attempts.createFirst(this.#accepted(snapshot, 'Starting'), attempt))) return;
    if (assumed === true) throw new WaitingError(0, 'Recorded', 'the record knows the evaluation already');
    await this.#deps.database.transaction(async (tx) => {
      await this.evaluation(snapshot, 'Starting', tx);
      await this.#deps.attempts.create(attempt, tx);
      await this.#deps.evaluations.setPhase({ uid, phase: 'Starting', epoch }, tx);
    });
  }

  async end(uid: string, { attempt, evaluation }: Extract<Action, { type: 'recordEnd' }>): Promise<void> {
    const epoch = this.#deps.epoch();
    if (await this.#endAtOnce(uid, { attempt, evaluation })) return;
    await this.#deps.database.transaction(async (tx) => {
      if (attempt !== undefined) {
        const { pod, ...end } = attempt;
        if (pod !== undefined)
          await this.#deps.attempts.setPod({ evaluationUid: uid, number: end.number, epoch, ...pod }, tx);
        agreed(await this.#deps.attempts.finalize({ evaluationUid: uid, epoch, ...end }, tx), 'the end of the attempt');
      }
      if (evaluation === undefined) return;
      const { acceptedAttempt, ...end } = evaluation;
      if (acceptedAttempt !== undefined) {
        agreed(
          await this.#deps.attempts.accept({ evaluationUid: uid, number: acceptedAttempt, epoch }, tx),
          'the accepted attempt',
        );
      }
      agreed(await this.#deps.evaluations.finish({ uid, epoch, ...end }, tx), 'the end of the evaluation');
    });
  }

  /** Of a run that has a pod, as nearly all end. */
  async #endAtOnce(uid: string, { attempt, evaluation }: Omit<Extract<Action, { type: 'recordEnd' }>, 'type'>): Promise<boolean> {
    if (attempt === undefined || evaluation?.acceptedAttempt !== attempt.number) return false;
    const epoch = this.#deps.epoch();
    const { pod, ...end } = attempt;
    return await this.#deps.attempts.finishRun({ ...end, evaluationUid: uid, epoch }, { ...evaluation, uid, epoch }, pod);
  }
}

/** As the record knows it. Without a namespace in sight its UID is empty. */
export function identityOf({ metadata }: RawEvaluation, home: Namespace | undefined) {
  const { uid = '', namespace = '', name = '', creationTimestamp } = metadata;
  return { uid, namespace, namespaceUid: home?.metadata.uid ?? '', name, createdAt: new Date(creationTimestamp ?? 0) };
}

/** Two that decided differently about one end: the record has the first; the next reconcile reads it. */
function agreed(outcome: string, what: string): void {
  if (outcome === 'conflict') throw new Error(`${what} was recorded otherwise`);
}
