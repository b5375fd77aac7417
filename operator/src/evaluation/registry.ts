import type { Database, NotAdmitted, SubmissionRecord } from '@crucible/storage';
import { NamespaceRepository, SubmissionRepository } from '@crucible/storage';
import { LABELS } from '@crucible/crds';
import type { Namespace } from './objects.ts';

/** A younger one may not have come through the watch yet. */
const GONE_AFTER_MILLISECONDS = 60_000;

export interface RegistryDependencies {
  readonly database: Database;
  readonly namespaces: { list(): readonly Namespace[] };
  /** There is an Evaluation with this uid, as far as the watch knows. */
  readonly known: (uid: string) => boolean;
  /** The cluster itself says that there is none: a watch may hang. */
  readonly isGone: (run: Pick<SubmissionRecord, 'uid' | 'namespace' | 'name'>) => Promise<boolean>;
  /** What is not admitted, and why, as their status says. */
  readonly notAdmitted: () => Iterable<NotAdmitted>;
  readonly now: () => number;
}

/**
 * Tells the record what only the operator sees: which UID a namespace's name means, which is what the API decides access
 * by, and that something submitted is gone before anything of it was recorded.
 */
export class Registry {
  readonly #namespaces: NamespaceRepository;
  readonly #submissions: SubmissionRepository;
  readonly #deps: RegistryDependencies;
  /** Names by UID, as far as the record knows. */
  readonly #told = new Map<string, string>();

  constructor(deps: RegistryDependencies) {
    this.#deps = deps;
    this.#namespaces = new NamespaceRepository(deps.database);
    this.#submissions = new SubmissionRepository(deps.database);
  }

  /** Cheap when nothing has changed. Throws UnavailableError; what was not told is told the next time. */
  async tellNamespaces(): Promise<void> {
    const all = this.#deps.namespaces.list();
    const enabled = all.filter(({ metadata }) => metadata.labels?.[LABELS.evaluations] === 'enabled');
    // One that another process told of may have gone while nobody looked.
    if (this.#told.size === 0) for (const { uid, name } of await this.#namespaces.current()) this.#told.set(uid, name);
    for (const { metadata: { uid, name = '' } } of enabled) {
      if (uid === undefined || this.#told.has(uid)) continue;
      await this.#namespaces.observe({ uid, name });
      this.#told.set(uid, name);
    }
    // Gone is what is not there any more: one that is only disabled keeps its records, and may be enabled again.
    const there = new Set(all.map(({ metadata }) => metadata.uid));
    for (const uid of [...this.#told.keys()]) {
      if (there.has(uid)) continue;
      await this.#namespaces.end(uid);
      this.#told.delete(uid);
    }
  }

  /**
   * Of what was never recorded: its Evaluation is gone, or it is not admitted, and that was said while the record was away,
   * or before the submission was there to say it of.
   */
  async settleSubmissions(): Promise<void> {
    const { known, isGone, now, notAdmitted } = this.#deps;
    const told = new Map<string, SubmissionRecord>();
    // All of them: what is refused stays among them for as long as its owner leaves it there.
    for (let after: string | undefined; ;) {
      const page = await this.#submissions.listUnrecorded({ olderThanSeconds: 1, ...(after !== undefined && { after }) });
      for (const submission of page) {
        const { uid, submittedAt } = submission;
        if (known(uid)) told.set(uid, submission);
        else if (now() - submittedAt.getTime() > GONE_AFTER_MILLISECONDS && (await isGone(submission))) await this.#submissions.withdraw(uid);
      }
      after = page.at(-1)?.uid;
      if (after === undefined) break;
    }
    for (const one of notAdmitted()) if (!saysSo(told.get(one.uid), one)) await this.#submissions.tell(one);
  }
}

function saysSo(told: SubmissionRecord | undefined, { reason, message, refused }: NotAdmitted): boolean {
  return told !== undefined && told.reason === reason && told.message === message && told.refused === refused;
}
