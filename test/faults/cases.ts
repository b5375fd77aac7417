import { setTimeout as pause } from 'node:timers/promises';
import { connectRedis } from '@crucible/storage';
import { random } from './seed.ts';
import { flowing } from './scenario.ts';
import type { Part } from './scenario.ts';
import type { World, WorldOptions } from './world.ts';

// The faults, numbered as in docs/faults.md. A case arms its world before anything is submitted; what it returns runs
// once the Evaluations are there.

export interface FaultCase {
  readonly id: string;
  /** Before any of our programs runs. */
  readonly prepare?: (world: World) => Promise<void>;
  readonly arm: (world: World, seed: number) => (() => Promise<void>) | void;
  /** Whether the fault took place, by its effect and not because it was ordered: one that never did proves nothing. */
  readonly struck: (world: World) => boolean;
  /** Of several faults in one run. */
  readonly faults?: readonly FaultCase[];
  /** Parts whose end is rightly not that of the undisturbed run, with the verdicts that are right; none: any. */
  readonly otherwise?: Readonly<Record<string, readonly string[]>>;
  /** By its nature no part ends as in the undisturbed run; every other promise holds. */
  readonly incomparable?: boolean;
  /** Nothing may be missing of any output, which an undisturbed run would have shown. */
  readonly whole?: boolean;
  /** What the world needs besides. */
  readonly world?: Pick<WorldOptions, 'standby' | 'clock' | 'neighbour'>;
  /** Runs besides those of the reference run. */
  readonly parts?: readonly Part[];
}

/** In a row over all keys, each of which backs off. */
const CONFLICTS = 12;

/** 3. Writes succeed and the client sees 500, a broken connection, or is told to come back later. */
export function lyingAnswers(): FaultCase {
  let told = 0;
  return {
    id: '3/error-after-write',
    arm: (world, seed) => {
      const next = random(seed);
      world.operatorApi.onCall = (call) => {
        if (!call.mutating || call.resource === 'leases' || next() > 0.3) return undefined;
        told += 1;
        const kind = Math.floor(next() * 4);
        if (kind === 0) return { kind: 'cut', reached: true };
        if (kind === 1) return { kind: 'answer', code: 429, retryAfterSeconds: 1, reached: false };
        if (kind === 2) return { kind: 'twice' };
        return { kind: 'answer', code: 500, reached: true };
      };
    },
    struck: () => told > 0,
  };
}

export function conflictStorm(): FaultCase {
  let told = 0;
  return {
    id: '3/conflict-storm',
    arm: (world) => {
      world.operatorApi.onCall = (call) => {
        if (call.resource !== 'evaluations/status' && call.resource !== 'evaluations') return undefined;
        if (!call.mutating || told >= CONFLICTS) return undefined;
        told += 1;
        return { kind: 'answer', code: 409, reached: false };
      };
    },
    struck: () => told >= CONFLICTS,
  };
}

/** 4. Nobody sees the pod's terminal update, and the pod is gone before the next one. */
export function terminalUpdateLost(): FaultCase {
  const part = 'succeeds';
  let dropped = 0;
  return {
    id: '4/terminal-update-lost',
    otherwise: { [part]: ['InternalError'] },
    arm: (world) => {
      const drop = ({ resource, type, object }: { resource: string; type: string; object: Record<string, any> }) => {
        if (resource !== 'pods' || type === 'DELETED') return undefined;
        if (object['metadata'].labels['crucible.dev/evaluation'] !== part || !isOver(object)) return undefined;
        dropped += 1;
        return 'drop' as const;
      };
      world.operatorApi.onLine = drop;
      world.recorderApi.onLine = drop;
      return async () => {
        const pod = await world.until('the end of the pod', async () => {
          const found = await world.pod(part);
          return found !== undefined && isOver(found) ? found : undefined;
        });
        await world.vanish(pod);
      };
    },
    struck: () => dropped > 0,
  };
}

/** 5. Watches deliver lines twice, late and again, end at any line, or break in the middle of one. */
export function brokenWatches(): FaultCase {
  let harmed = 0;
  return {
    id: '5/broken-watches',
    arm: (world, seed) => {
      const next = random(seed);
      const harm = () => {
        if (next() > 0.25) return undefined;
        harmed += 1;
        const kinds = ['duplicate', 'replay', 'cut', 'malformed', { delayMs: 300 }] as const;
        return kinds[Math.floor(next() * kinds.length)];
      };
      world.operatorApi.onLine = harm;
      world.recorderApi.onLine = harm;
    },
    struck: () => harmed > 0,
  };
}

/** Final reads begin at the first byte, back off up to 10 s, and are given up after three minutes. */
const FINAL_CUTS = 3;
/** A follow that has come further is tried again after some 200 ms, and one that saw the end is all: what one log is cut in so long. */
const CUTS_A_PART = 15;
const CUT_MS = 10_000;
const CUT_BYTES = 60_000;

/** 11. The log stream breaks at random bytes, so many times. */
export function cutLogs(times: number): FaultCase {
  const parts = Array.from({ length: Math.ceil(times / CUTS_A_PART) }, (_, index) =>
    flowing(`flows-${index}`, index + 1, CUT_BYTES, CUT_MS),
  );
  return {
    id: `11/logs-cut-${times}-times`,
    arm: (world, seed) => {
      const next = random(seed);
      const finals = new Map<string, number>();
      /** How far each log was let through. */
      const seen = new Map<string, number>();
      world.recorderApi.onLog = ({ path, query }) => {
        if (world.recorderApi.logsCut >= times) return undefined;
        if (query.get('follow') !== 'true') {
          const final = (finals.get(path) ?? 0) + 1;
          if (final > FINAL_CUTS) return undefined;
          finals.set(path, final);
        }
        // Mostly a little further than before, sometimes on the way there.
        const before = seen.get(path) ?? 0;
        const limit = 1 + Math.floor(next() < 0.8 ? before + next() * 2000 : next() * before);
        seen.set(path, Math.max(before, limit));
        return limit;
      };
    },
    struck: (world) => world.recorderApi.logsCut >= times,
    parts,
    otherwise: Object.fromEntries(parts.map(({ name }) => [name, ['Succeeded']])),
    whole: true,
  };
}

/** 12. Postgres dies and comes back, while runs start, run and end. */
export function postgresKilled(times: number, awayMs: number): FaultCase {
  let effective = 0;
  return {
    id: `12/postgres-killed-${times}-times-away-${awayMs}-ms`,
    arm: (world, seed) => {
      const next = random(seed);
      return async () => {
        for (let time = 0; time < times; time += 1) {
          await connected(world);
          await pause(next() * 1200);
          const before = lostConnections(world);
          await world.servers.postgres.stop('SIGKILL');
          await pause(awayMs);
          await world.servers.postgres.start();
          if (lostConnections(world) > before) effective += 1;
        }
      };
    },
    struck: () => effective === times,
  };
}

/** 12. Postgres cannot be reached for some time; its own state is not touched. */
export function postgresAway(awayMs: number): FaultCase {
  let lost = 0;
  return {
    id: `12/postgres-away-${awayMs}-ms`,
    arm: (world, seed) => {
      const next = random(seed);
      return async () => {
        await connected(world);
        await pause(next() * 1500);
        const before = lostConnections(world);
        await Promise.all([world.operatorCommits.down(), world.recorderCommits.down()]);
        lost = lostConnections(world) - before;
        await pause(awayMs);
        await Promise.all([world.operatorCommits.up(), world.recorderCommits.up()]);
      };
    },
    struck: () => lost > 0,
  };
}

const lostConnections = (world: World): number => world.operatorCommits.lost + world.recorderCommits.lost;

/** Both programs have written since: before that nothing of theirs could be disturbed. */
async function connected(world: World): Promise<void> {
  const proxies = [world.operatorCommits, world.recorderCommits];
  await world.until('a commit of both', () => (proxies.every(({ points }) => points.length > 0) ? true : undefined));
}

/** 12. Redis is slow, flushed, frozen, cannot be reached, and dies with all it has; one after another in random order. */
export function redisTroubled(): FaultCase {
  let happened = 0;
  let lost = 0;
  return {
    id: '12/redis-slow-flushed-frozen-away-killed',
    arm: (world, seed) => {
      const next = random(seed);
      const { redis: server } = world.servers;
      const { redis: proxy } = world;
      if (server === undefined || proxy === undefined) return;
      const troubles = [
        async () => {
          proxy.delayMs = 700;
          await pause(1500);
          proxy.delayMs = 0;
        },
        () => flush(server.url),
        async () => {
          server.signal('SIGSTOP');
          await pause(2500).finally(() => server.signal('SIGCONT'));
        },
        async () => {
          await proxy.down();
          await pause(1000);
          await proxy.up();
        },
        async () => {
          await server.kill();
          await pause(next() * 500);
          await server.start();
        },
      ];
      return async () => {
        await world.until('something that is published', () => (proxy.points.length > 0 ? true : undefined));
        const [lostBefore, before] = [proxy.lost, await recorded(world)];
        while (troubles.length > 0) {
          await pause(next() * 300);
          await troubles.splice(Math.floor(next() * troubles.length), 1)[0]!();
        }
        lost = proxy.lost - lostBefore;
        happened = (await recorded(world)) - before;
      };
    },
    // Not whether something was published meanwhile: while Redis is away nobody tries.
    struck: () => lost > 0 && happened > 0,
  };
}

/** Events there are by now, each of which is to be published. */
async function recorded(world: World): Promise<number> {
  const { rows } = await world.record.query<{ count: number }>('SELECT count(*)::int AS count FROM crucible.events');
  return rows[0]!.count;
}

async function flush(url: string): Promise<void> {
  const redis = connectRedis({ url });
  await new Promise((resolve) => redis.once('ready', resolve));
  await redis.flushall();
  redis.disconnect();
}

/** The must-show run: recorder, Postgres and Redis are each killed as the bytes of one run flow. */
export function everythingKilled(): FaultCase {
  const part = 'succeeds';
  let asItFlowed = 0;
  return {
    id: '11+12/recorder-postgres-redis-killed-as-bytes-flow',
    // Every seed has output of its own: what it must be is known without an undisturbed run.
    incomparable: true,
    whole: true,
    otherwise: { succeeds: ['Succeeded'], fails: ['NonZeroExit'], cancelled: ['Cancelled'], deleted: ['Cancelled'] },
    arm: (world, seed) => {
      const next = random(seed);
      return async () => {
        await world.until('output', async () => ((await world.state()).runs.some(({ streams }) => streams.some(({ found }) => found.bytes > 0)) ? true : undefined));
        const deaths = [
          () => world.recorder.kill(),
          async () => {
            await world.servers.postgres.stop('SIGKILL');
            await pause(next() * 1500);
            await world.servers.postgres.start();
          },
          async () => {
            await world.servers.redis?.kill();
            await world.servers.redis?.start();
          },
        ];
        while (deaths.length > 0) {
          await pause(next() * 1000);
          if (world.servers.node.writes((await world.pod(part))?.['metadata'].uid)) asItFlowed += 1;
          await deaths.splice(Math.floor(next() * deaths.length), 1)[0]!();
        }
      };
    },
    struck: (world) => world.recorder.starts > 1 && asItFlowed === 3,
  };
}

/** Several that do not use the same hook of the same proxy, in one run. */
export function together(...faults: readonly FaultCase[]): FaultCase {
  return combined(faults, async (harms) => void (await Promise.all(harms.map((harm) => harm()))));
}

/** One after another, in one run. */
export function inTurn(...faults: readonly FaultCase[]): FaultCase {
  return combined(faults, async (harms) => {
    for (const harm of harms) await harm();
  });
}

function combined(faults: readonly FaultCase[], harm: (harms: readonly (() => Promise<void>)[]) => Promise<void>): FaultCase {
  return {
    id: faults.map(({ id }) => id).join('+'),
    prepare: async (world) => {
      for (const fault of faults) await fault.prepare?.(world);
    },
    arm: (world, seed) => {
      const harms = faults.map((fault) => fault.arm(world, seed) ?? (() => Promise.resolve()));
      return () => harm(harms);
    },
    struck: (world) => faults.every((fault) => fault.struck(world)),
    faults,
    incomparable: faults.some((fault) => fault.incomparable === true),
    whole: faults.some((fault) => fault.whole === true),
    otherwise: Object.assign({}, ...faults.map((fault) => fault.otherwise)) as Record<string, readonly string[]>,
    world: Object.assign({}, ...faults.map((fault) => fault.world)) as NonNullable<FaultCase['world']>,
    parts: faults.flatMap((fault) => fault.parts ?? []),
  };
}

export function isOver(pod: Record<string, any>): boolean {
  return ['Succeeded', 'Failed'].includes(pod['status']?.phase);
}
