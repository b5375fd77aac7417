import { NamespaceRepository, findOwner, readPositions, readQueue, readStorageTotals } from '@crucible/storage';
import type { Awaitable, Database, EvaluationOwner, Queue, Scope, StorageTotals } from '@crucible/storage';
import { Cache } from '@crucible/storage';
import type { Redis } from 'ioredis';
import type { KnownNamespaces } from './auth/authorizer.ts';
import { TtlCache } from './auth/ttl-cache.ts';

const OWNER_SECONDS = 3600;
/** In this process: Redis is asked for what others have looked up. */
const OWNERS = 20_000;
const OWN_OWNER_SECONDS = 300;
const NAMES_SECONDS = 5;
const QUEUE_SECONDS = 1;
const TOTALS_SECONDS = 1;
/** Scopes that somebody asks for in the same second. */
const SCOPES = 200;

/** What many requests ask of the record in the same second, or what never changes. */
export class Snapshots implements KnownNamespaces {
  /** Whom an id belongs to never changes: known even while Postgres is away, if Redis is not. */
  readonly owners: Cache<EvaluationOwner | undefined>;
  readonly #owners: TtlCache<EvaluationOwner | undefined>;
  readonly #database: Database;
  readonly #namespaces: NamespaceRepository;
  readonly #configured: readonly string[];
  readonly #names: TtlCache<readonly string[]>;
  readonly #queue: TtlCache<Queue>;
  readonly #positions: TtlCache<ReadonlyMap<string, number>>;
  readonly #totals: TtlCache<StorageTotals>;
  readonly #redis: Redis | undefined;
  readonly limits: { total: number; namespaces: Readonly<Record<string, number>> };

  constructor(options: {
    database: Database;
    redis: Redis | undefined;
    /** Those that are enabled: known before anything has run in them. */
    configured: readonly string[];
    limits: { total: number; namespaces: Readonly<Record<string, number>> };
    now: () => number;
  }) {
    this.#database = options.database;
    this.#namespaces = new NamespaceRepository(options.database);
    this.#configured = options.configured;
    this.limits = options.limits;
    this.#owners = new TtlCache(OWNERS, options.now);
    this.#names = new TtlCache(1, options.now);
    this.#queue = new TtlCache(1, options.now);
    this.#positions = new TtlCache(1, options.now);
    this.#totals = new TtlCache(SCOPES, options.now);
    this.#redis = options.redis;
    this.owners = new Cache({ redis: options.redis, name: 'owner', ttlSeconds: OWNER_SECONDS });
  }

  owner(id: string): Awaitable<EvaluationOwner | undefined> {
    const load = () => this.owners.get(id, () => findOwner(this.#database, id));
    return this.#owners.get(id, load, (found) => (found === undefined ? 0 : OWN_OWNER_SECONDS));
  }

  names(): Awaitable<readonly string[]> {
    const load = async () => {
      const known = await this.#namespaces.current();
      return [...new Set([...this.#configured, ...known.map(({ name }) => name)])];
    };
    return this.#names.get('', load, () => NAMES_SECONDS);
  }

  async uidsOf(name: string): Promise<readonly string[]> {
    const { rows } = await this.#database.query<{ uid: string }>('SELECT uid FROM crucible.namespaces WHERE name = $1', [name]);
    return rows.map(({ uid }) => uid);
  }

  /** Of all that wait, however many: each of them asks for its own, again and again. */
  positions(): Awaitable<ReadonlyMap<string, number>> {
    return this.#positions.get('', () => readPositions(this.#database, this.limits), () => QUEUE_SECONDS);
  }

  /** Of everybody: positions are counted among all. */
  queue(): Awaitable<Queue> {
    return this.#queue.get('', () => readQueue(this.#database, 'all', this.limits), () => QUEUE_SECONDS);
  }

  /** Who may list the same namespaces gets the same answer: counting keys in Redis is not free. */
  totals(scope: Scope): Awaitable<StorageTotals> {
    const key = scope === 'all' ? 'all' : [...scope].sort().join();
    return this.#totals.get(key, () => readStorageTotals(this.#database, this.#redis, scope), () => TOTALS_SECONDS);
  }
}
