import { waitForSchema, type Database, type EventFeed } from '@crucible/storage';
import type { Cluster } from './cluster.ts';

const CHECK_MILLISECONDS = 5_000;
const RETRY_MILLISECONDS = 500;

interface Log {
  info(fields: object, message: string): void;
}

/**
 * What has to be there before the first request is served, one after the other; what fails is tried again for ever. Later
 * outages do not take readiness away: what needs Postgres says so itself, and what does not goes on.
 */
export class Readiness {
  #reason: string | undefined = 'it has just begun';
  #draining = false;

  readonly notReady = (): string | undefined => (this.#draining ? 'this replica is shutting down' : this.#reason);

  async prepare(steps: { database: Database; cluster: Pick<Cluster, 'check'>; feed: Pick<EventFeed, 'start' | 'begun'>; log: Log }, signal: AbortSignal): Promise<void> {
    const { database, cluster, feed, log } = steps;
    const wait = (reason: string): void => {
      if (reason !== this.#reason) log.info({ reason }, 'waiting');
      this.#reason = reason;
    };
    await waitForSchema(database, { signal, onWait: wait });
    await this.#until(() => cluster.check(), 'the cluster’s API server does not answer, or does not let Crucible ask who somebody is', wait, signal);
    feed.start();
    wait('the newest events are not read yet');
    await feed.begun;
    this.#reason = undefined;
    log.info({}, 'ready');
  }

  drain(): void {
    this.#draining = true;
  }

  async #until(work: () => Promise<void>, reason: string, wait: (reason: string) => void, signal: AbortSignal): Promise<void> {
    for (let pause = RETRY_MILLISECONDS; !signal.aborted; pause = Math.min(pause * 2, CHECK_MILLISECONDS)) {
      try {
        return await work();
      } catch {
        wait(reason);
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
    signal.throwIfAborted();
  }
}
