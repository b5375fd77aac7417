import { Database } from './database.ts';
import type { Queryable, Result, Transaction } from './database.ts';
import { UnavailableError } from './errors.ts';
import { WRONG_SCHEMA, schemaReady } from './schema.ts';

/**
 * The record for a process that begins its work without waiting for it: until the schema has been found to be this image's,
 * every statement asks for it first, and fails as if Postgres were away while it is another one.
 */
export class CheckedDatabase extends Database {
  /** To ask for the schema itself. */
  readonly unchecked: Queryable = { query: (text, values) => super.query(text, values) };
  #fits = false;
  #asking: Promise<void> | undefined;

  override async query<R extends object = Record<string, unknown>>(text: string, values: readonly unknown[] = []): Promise<Result<R>> {
    if (!this.#fits) await this.#check();
    return await super.query<R>(text, values);
  }

  override async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    if (!this.#fits) await this.#check();
    return await super.transaction(work);
  }

  /** Many begin at once when it is back: one asks for all. */
  #check(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  async #ask(): Promise<void> {
    const state = await schemaReady(this.unchecked);
    if (state !== 'ok') throw new UnavailableError(WRONG_SCHEMA[state]);
    this.#fits = true;
  }
}
