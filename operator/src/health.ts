import type { Database } from '@crucible/storage';

const EVERY_MS = 5000;

/** Asks Postgres now and then, so that a readiness probe answers at once. */
export class DatabaseProbe {
  readonly #database: Pick<Database, 'query'>;
  #timer: NodeJS.Timeout | undefined;
  #asking = false;
  #available = false;

  constructor(database: Pick<Database, 'query'>) {
    this.#database = database;
  }

  get available(): boolean {
    return this.#available;
  }

  start(): void {
    void this.ask();
    this.#timer = setInterval(() => void this.ask(), EVERY_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      await this.#database.query('SELECT 1');
      this.#available = true;
    } catch {
      this.#available = false;
    } finally {
      this.#asking = false;
    }
  }
}
