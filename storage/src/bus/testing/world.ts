// Events by real writers in a real Postgres, relays of the recorder's role, and what must hold of the stream.
import { fork, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { expect } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../../test/integration/database.ts';
import { connect, type Database } from '../../database.ts';
import { EvaluationRepository } from '../../evaluations.ts';
import { EventRepository } from '../../events.ts';
import { connectRedis } from '../../redis/connection.ts';
import { buildEvaluation, prepareDatabase, type RoleDsns } from '../../testing.ts';
import type { CloudEvent } from '../cloud-event.ts';
import { parseCloudEvent } from '../cloud-event.ts';
import { PositionRepository } from '../positions.ts';
import { EventRelay, type RelayObserver, type RelaySettings } from '../relay.ts';
import { EVENT_STREAM, eventText, positionOf } from '../stream.ts';

const PROCESS = fileURLToPath(new URL('./process.ts', import.meta.url));
/** Everything that waits in production waits less here. */
const FAST: Partial<RelaySettings> = { batch: 20, checkMilliseconds: 200, minBackoffMilliseconds: 10, maxBackoffMilliseconds: 100 };
const DEADLINE_MILLISECONDS = 15_000;

/** What a relay told, as it would be in metrics. */
export class Recording implements RelayObserver {
  isActive = false;
  lastLag = -1;
  total = 0;
  dead = 0;
  rewrites = 0;
  readonly troubles: string[] = [];
  active = (active: boolean): void => void (this.isActive = active);
  lag = (events: number): void => void (this.lastLag = events);
  published = (events: number): void => void (this.total += events);
  deadLetters = (count: number): void => void (this.dead = count);
  rewritten = (): void => void (this.rewrites += 1);
  trouble = (where: string, reason: string | undefined): void => void this.troubles.push(`${where}: ${reason ?? 'well'}`);
}

export class BusWorld {
  readonly dsns: RoleDsns;
  readonly operator: Database;
  readonly owner: Database;
  readonly positions: PositionRepository;
  readonly #database: TestDatabase;
  readonly #cleanup: (() => unknown)[] = [];

  static async create(): Promise<BusWorld> {
    const database = await createDatabase('bus');
    return new BusWorld(database, await prepareDatabase(database.dsn));
  }

  private constructor(database: TestDatabase, dsns: RoleDsns) {
    this.#database = database;
    this.dsns = dsns;
    this.operator = connect({ connectionString: dsns.operator, poolSize: 20 });
    this.owner = connect(dsns.owner);
    this.positions = new PositionRepository(this.owner);
  }

  async close(): Promise<void> {
    for (const clean of this.#cleanup.reverse()) await clean();
    await Promise.all([this.operator.close(), this.owner.close()]);
    await this.#database.drop();
  }

  later(clean: () => unknown): void {
    this.#cleanup.push(clean);
  }

  client(url: string): Redis {
    const redis = connectRedis({ url, commandTimeoutMilliseconds: 1_500, maxBackoffMilliseconds: 100 });
    this.later(() => redis.disconnect());
    return redis;
  }

  /** Ready, so that a test may use it at once. */
  async ready(url: string): Promise<Redis> {
    const redis = this.client(url);
    await eventually(() => expect(redis.status).toBe('ready'));
    return redis;
  }

  relay(url: string | undefined, settings: Partial<RelaySettings> = {}): { relay: EventRelay; saw: Recording; stop: () => Promise<void> } {
    const database = connect({ connectionString: this.dsns.recorder, applicationName: 'test-relay', poolSize: 3 });
    const saw = new Recording();
    const relay = new EventRelay(database, url === undefined ? undefined : this.client(url), saw, { ...FAST, ...settings });
    relay.start();
    let stopped: Promise<void> | undefined;
    const stop = (): Promise<void> => (stopped ??= relay.stop().then(() => database.close()));
    this.later(stop);
    return { relay, saw, stop };
  }

  process(url: string): ChildProcess {
    const child = fork(PROCESS, [this.dsns.recorder, url], { stdio: 'inherit' });
    this.later(() => child.kill('SIGKILL'));
    return child;
  }

  async accept(): Promise<string> {
    const evaluation = buildEvaluation({ uid: randomUUID() });
    await new EvaluationRepository(this.operator).upsertAccepted(evaluation);
    return evaluation.uid;
  }

  async finish(uid: string): Promise<void> {
    const end = { phase: 'Succeeded', verdict: { class: 'Succeeded' }, passed: null, finishedAt: new Date() };
    await new EvaluationRepository(this.operator).finish({ uid, epoch: 1, ...end });
  }

  /** One event in a transaction of its own. */
  async append(uid: string, data: object = {}, rollBack = false): Promise<void> {
    const events = new EventRepository(this.operator);
    const work = this.operator.transaction(async (tx) => {
      await events.append(tx, uid, { type: 'test.happened', data });
      if (rollBack) throw new RolledBack();
    });
    await work.catch((error: unknown) => {
      if (!(error instanceof RolledBack)) throw error;
    });
  }

  /** `writers` at once over a few evaluations, every seventh transaction rolled back. */
  async load(writers: number, each: number): Promise<void> {
    const uids = await Promise.all(Array.from({ length: 5 }, () => this.accept()));
    await Promise.all(
      Array.from({ length: writers }, async (_, writer) => {
        for (let n = 0; n < each; n += 1) await this.append(uids[(writer + n) % 5] ?? '', { writer, n }, (writer + n) % 7 === 0);
      }),
    );
  }

  async count(): Promise<number> {
    const { rows } = await this.owner.query<{ count: number }>('SELECT count(*) AS count FROM crucible.events');
    return rows[0]?.count ?? 0;
  }

  /** The stream holds every event once, at its position, and each evaluation's in its order. */
  async expectWhole(redis: Redis): Promise<void> {
    const rows = await this.allRows();
    expect(rows.map(({ position }) => position)).toEqual(Array.from({ length: await this.count() }, (_, index) => index + 1));
    await eventually(async () => expect((await entries(redis)).length).toBeGreaterThanOrEqual(rows.length));
    const stream = await entries(redis);
    expect(stream.map(({ position, event }) => [position, event.id, event.position])).toEqual(
      rows.map((row) => [row.position, `${row.evaluationUid}/${row.seq}`, String(row.position)]),
    );
    expectOrdered(stream.map(({ event }) => event));
  }

  async allRows(): Promise<{ position: number; evaluationUid: string; seq: number }[]> {
    await eventually(async () => expect(await this.positions.waiting()).toBe(0));
    const { rows } = await this.owner.query<{ position: number; evaluationUid: string; seq: number }>(
      'SELECT position, evaluation_uid AS "evaluationUid", seq FROM crucible.events ORDER BY position',
    );
    return rows;
  }
}

class RolledBack extends Error {}

export async function entries(redis: Redis): Promise<{ position: number; event: CloudEvent }[]> {
  const found = await redis.xrange(EVENT_STREAM, '-', '+');
  return found.map(([id, fields]) => ({ position: positionOf(id), event: parseCloudEvent(eventText(fields)) }));
}

/** From 1, without gaps or repetitions, for each evaluation. */
export function expectOrdered(events: readonly CloudEvent[]): void {
  const next = new Map<string, number>();
  for (const { subject, sequence } of events) {
    const expected = next.get(subject) ?? 1;
    expect(`${subject}/${sequence}`).toBe(`${subject}/${expected}`);
    next.set(subject, expected + 1);
  }
}

export async function eventually(check: () => unknown, milliseconds = DEADLINE_MILLISECONDS): Promise<void> {
  await expect.poll(async () => {
    await check();
    return true;
  }, { timeout: milliseconds, interval: 20 }).toBe(true);
}
