import type { Database } from '@crucible/storage';
import type { ApiServer } from '../integration/api-server.ts';
import type { LiveReaders } from './live-reader.ts';
import type { Part } from './scenario.ts';
import type { Json } from './state.ts';

const POLL_MS = 150;
/** The owner cancels or deletes when the pod has run for about this long. */
const OWNER_ACTS_MS = 300;
/** A flood has no reader for each of its runs. */
const MAX_READERS = 20;

export interface Attended {
  readonly api: ApiServer;
  readonly record: Database;
  readonly parts: readonly Part[];
  readonly readers: LiveReaders;
  readonly pod: (part: string) => Promise<Json | undefined>;
  readonly evaluationPath: (part: string) => string;
}

/** Who is there from the start and through every fault: readers of the output, and the owner of the runs. */
export class Attendance {
  readonly #world: Attended;
  readonly #done = new Set<string>();
  readonly #loops: Promise<unknown>;
  #stopped = false;

  constructor(world: Attended) {
    this.#world = world;
    // Each in its own time: neither waits for a server that the other does not need.
    this.#loops = Promise.all([this.#again(() => this.#ownerActs()), this.#again(() => this.#follow())]);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loops;
  }

  async #again(act: () => Promise<void>): Promise<void> {
    while (!this.#stopped) {
      // A server that is away is what this is about.
      await act().catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Readers come as soon as there is something to read. */
  async #follow(): Promise<void> {
    const query = 'SELECT uid FROM crucible.evaluations ORDER BY created_at, uid LIMIT $1';
    const { rows } = await this.#world.record.query<{ uid: string }>(query, [MAX_READERS]);
    this.#world.readers.follow(rows.map(({ uid }) => uid));
  }

  /** The owner of the runs cancels and deletes, whatever state the operator is in. */
  async #ownerActs(): Promise<void> {
    const { api, parts, pod, evaluationPath } = this.#world;
    for (const { name, then } of parts) {
      if (then === undefined || this.#done.has(name)) continue;
      const since = Date.parse((await pod(name))?.['status']?.startTime ?? '');
      if (!(Date.now() - since > OWNER_ACTS_MS)) continue;
      const path = evaluationPath(name);
      const { status } =
        then === 'cancel' ? await api.mergePatch(path, { spec: { cancel: true } }) : await api.delete(path);
      if (status < 300) this.#done.add(name);
    }
  }
}
