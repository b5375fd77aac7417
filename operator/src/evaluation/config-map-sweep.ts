import { LABELS } from '@crucible/crds';
import type { Logger } from 'pino';
import { CONFIG_MAPS } from '../kube/index.ts';
import type { KubeClient } from '../kube/index.ts';

export interface ConfigMapSweepOptions {
  readonly client: Pick<KubeClient, 'deleteCollection'>;
  /** By the uid of the Evaluation: there is news of its ConfigMaps. */
  readonly wake: (uid: string) => void;
  readonly logger: Logger;
}

/** `left`: they could not be deleted with those of others. */
export type Swept = 'gone' | 'left';

/** Together, not one by one. */
const GATHER_MS = 1000;
/** Uids of 36 characters each, in the address of the request. */
const MAX_BATCH = 50;

/** Deletes the ConfigMaps of runs that are over, those of a second in one request for each namespace. */
export class ConfigMapSweep {
  readonly #options: ConfigMapSweepOptions;
  readonly #abort = new AbortController();
  /** By the uid of the Evaluation, until it is forgotten. */
  readonly #known = new Map<string, Swept | 'wanted'>();
  /** Uids by namespace. */
  readonly #waiting = new Map<string, string[]>();
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();

  constructor(options: ConfigMapSweepOptions) {
    this.#options = options;
  }

  /** All ConfigMaps of this Evaluation, soon; once. */
  want(namespace: string, uid: string): void {
    if (this.#abort.signal.aborted || this.#known.has(uid)) return;
    this.#known.set(uid, 'wanted');
    const own = this.#waiting.get(namespace);
    if (own === undefined) this.#waiting.set(namespace, [uid]);
    else own.push(uid);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#sweeping = this.#sweeping.then(() => this.#sweep());
    }, GATHER_MS);
  }

  /** What became of them; undefined as long as nothing has. */
  of(uid: string): Swept | undefined {
    const known = this.#known.get(uid);
    return known === 'wanted' ? undefined : known;
  }

  forget(uid: string): void {
    this.#known.delete(uid);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#abort.abort();
    await this.#sweeping;
  }

  /** Never fails. */
  async #sweep(): Promise<void> {
    const batches = [...this.#waiting].flatMap(([namespace, uids]) =>
      Array.from({ length: Math.ceil(uids.length / MAX_BATCH) }, (_, index) => ({
        namespace,
        uids: uids.slice(index * MAX_BATCH, (index + 1) * MAX_BATCH),
      })),
    );
    this.#waiting.clear();
    await Promise.all(batches.map(({ namespace, uids }) => this.#delete(namespace, uids)));
  }

  async #delete(namespace: string, uids: readonly string[]): Promise<void> {
    const { client, wake, logger } = this.#options;
    const labelSelector = `${LABELS.evaluationUid} in (${uids.join()}),app.kubernetes.io/managed-by=crucible`;
    let became: Swept = 'gone';
    try {
      await client.deleteCollection(CONFIG_MAPS, namespace, { labelSelector, signal: this.#abort.signal });
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      became = 'left';
      logger.debug({ err: error, namespace }, 'ConfigMaps are deleted one by one');
    }
    for (const uid of uids) {
      if (this.#known.has(uid)) this.#known.set(uid, became);
      wake(uid);
    }
  }
}
