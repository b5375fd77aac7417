import { setTimeout as pause } from 'node:timers/promises';
import type { FaultCase } from './cases.ts';
import { held, hold, isFinished, release } from './cases-pods.ts';
import { random } from './seed.ts';
import type { Json } from './state.ts';
import type { World } from './world.ts';

// Faults 6 to 8, of the API server and of the leader, and those of 12 and 13 that are about Postgres and about time.

const LINE_DELAY_MS = 1500;
const HALF_HOUR_MS = 30 * 60_000;

/**
 * 6. After a restart the lists are old: they show what ran before, while it has ended, was deleted, and its name was used
 * again. `part` was finished when it was deleted, or still ran and was deleted by force, finalizer and all.
 */
export function staleLists(part: 'fails' | 'succeeds'): FaultCase {
  const old = new Map<string, unknown>();
  const served = new Set<string>();
  let stale = false;
  return {
    id: `6/stale-lists-and-${part}-made-anew`,
    arm: (world) => {
      const urls = new Set<string>();
      world.operatorApi.onCall = ({ method, watch, path, url, resource }) => {
        if (method !== 'GET' || watch || !path.endsWith(`/${resource}`)) return undefined;
        if (!stale) urls.add(url);
        if (!stale || served.has(url) || !old.has(url)) return undefined;
        served.add(url);
        return { kind: 'stale', body: old.get(url) };
      };
      // What came later comes, but not at once.
      world.operatorApi.onLine = ({ number }) => (stale && number === 1 ? { delayMs: LINE_DELAY_MS } : undefined);
      hold(world, 'running', part);
      return held(world, async () => {
        await world.until(`${part} to run`, async () => ((await world.evaluation(part))?.['status']?.phase === 'Running' ? true : undefined));
        for (const url of urls) old.set(url, (await world.api.get(url)).body);
        if (part === 'fails') release(world);
        if (part === 'fails') await world.until('its end', async () => isFinished(await world.evaluation(part)) || undefined);
        stale = true;
        await world.operator.kill();
        const path = world.path('evaluations', part);
        if (part === 'succeeds') await world.api.mergePatch(path, { metadata: { finalizers: null } });
        await world.api.delete(path);
        await world.until('its deletion', async () => ((await world.evaluation(part)) === undefined ? true : undefined));
        release(world);
        await world.create(world.parts.find(({ name }) => name === part)!);
      });
    },
    struck: () => [...served].some((url) => url.includes('/evaluations')),
  };
}

/** 7. The API server dies and comes back, while runs start, run and end. */
export function apiServerKilled(times: number): FaultCase {
  let effective = 0;
  return {
    id: `7/api-server-killed-${times}-times`,
    arm: (world, seed) => {
      const next = random(seed);
      const { apiServer } = world.servers.kubernetes;
      return async () => {
        for (let time = 0; time < times; time += 1) {
          await leading(world);
          await pause(next() * 1500);
          const before = world.operatorApi.unanswered;
          await apiServer.kill();
          await pause(next() * 1000);
          await apiServer.start();
          if (world.operatorApi.unanswered > before) effective += 1;
        }
        world.forgiveNode();
      };
    },
    struck: () => effective === times,
  };
}

/** Far longer than any call takes. */
const NOTICEABLE_MS = 500;

/** 7. etcd stands still: nothing can be read or written, and what was asked is perhaps done later. */
export function etcdStopped(forMs: number): FaultCase {
  let harmed = false;
  return {
    id: `7/etcd-stopped-for-${forMs}-ms`,
    arm: (world, seed) => {
      const next = random(seed);
      const { etcd } = world.servers.kubernetes;
      return async () => {
        await leading(world);
        await pause(next() * 1500);
        const before = missed(world);
        etcd.signal('SIGSTOP');
        try {
          await pause(forMs);
          harmed = world.operatorApi.keptWaiting(NOTICEABLE_MS) || missed(world) > before;
        } finally {
          etcd.signal('SIGCONT');
        }
        await world.until('the API server', async () => ((await world.api.get('/readyz')).status === 200 ? true : undefined), 60_000);
        world.forgiveNode();
      };
    },
    struck: () => harmed,
  };
}

/** Calls of the operator that got no answer, or were told that the server could not reach its own store. */
function missed({ operatorApi }: World): number {
  return operatorApi.unanswered + [500, 503, 504].reduce((sum, code) => sum + operatorApi.answers(code), 0);
}

const TAKE_OVER_MS = 90_000;

/** 8. The leader stands still as it writes; another one leads when the write arrives and the first wakes up. */
export function leaderPaused(where: 'call' | 'commit', number: number): FaultCase {
  let slept = false;
  let tookOver = false;
  return {
    id: `8/leader-paused-in-${where}-${number}`,
    world: { standby: true },
    arm: (world) => {
      const sleep = async (): Promise<void> => {
        slept = true;
        const first = await world.leader();
        const leader = first.startsWith('operator-0_') ? world.operator : world.standby;
        leader.pause();
        try {
          await world.until('another leader', async () => ((await world.leader()) !== first ? true : undefined), TAKE_OVER_MS);
          // It acts on what it finds before the other one's write comes.
          await pause(1000);
          tookOver = true;
        } finally {
          leader.resume();
        }
      };
      let calls = 0;
      world.operatorApi.onCall = ({ mutating, resource }) => {
        if (where !== 'call' || !mutating || resource === 'leases' || resource === 'events') return undefined;
        calls += 1;
        return !slept && calls === number ? { kind: 'pass', act: sleep } : undefined;
      };
      world.operatorCommits.rule = (commit) =>
        where === 'commit' && !slept && commit.number === number ? { when: 'late', act: sleep } : undefined;
    },
    struck: () => tookOver,
  };
}

const TOO_MANY_CONNECTIONS = '53300';

/** 12. Postgres takes no further connection of ours, and has closed those there were. */
export function poolExhausted(forMs: number): FaultCase {
  const roles = ['crucible_operator', 'crucible_recorder'];
  let refused = 0;
  return {
    id: `12/no-connection-left-for-${forMs}-ms`,
    arm: (world, seed) => {
      const next = random(seed);
      const limit = async (connections: number): Promise<void> => {
        for (const role of roles) await world.record.query(`ALTER ROLE ${role} CONNECTION LIMIT ${connections}`);
      };
      return async () => {
        await leading(world);
        await pause(next() * 1500);
        try {
          await limit(0);
          await world.record.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY($1)', [roles]);
          refused = await world.until('a refused connection', () => {
            const [operator, recorder] = [world.operatorCommits, world.recorderCommits].map((proxy) => proxy.refusals(TOO_MANY_CONNECTIONS));
            return operator! + recorder! || undefined;
          });
          await pause(forMs);
        } finally {
          await limit(-1);
        }
      };
    },
    struck: () => refused > 0,
  };
}

/** Where every run writes. */
const TABLES = ['evaluations', 'attempts', 'events', 'captures', 'output_chunks'];

/** 12. Postgres answers every write as it does when its disk is full (53100); it reads on. */
export function diskFull(forMs: number): FaultCase {
  let refused = 0;
  return {
    id: `12/disk-full-for-${forMs}-ms`,
    arm: (world, seed) => {
      const next = random(seed);
      return async () => {
        await pause(next() * 1500);
        await world.record.query(`CREATE SEQUENCE crucible.refused; GRANT USAGE ON crucible.refused TO PUBLIC;
          CREATE FUNCTION crucible.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM nextval('crucible.refused');
            RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
          END $$`);
        const on = (how: string): Promise<unknown> =>
          world.record.query(TABLES.map((table) => how.replaceAll('TABLE', `crucible.${table}`)).join(';'));
        await on('CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON TABLE FOR EACH STATEMENT EXECUTE FUNCTION crucible.full()');
        await world.until('a refused write', async () => {
          const { rows } = await world.record.query<{ last: number }>('SELECT last_value AS last FROM crucible.refused');
          refused = rows[0]!.last;
          return refused > 1 ? true : undefined;
        });
        await pause(forMs);
        await on('DROP TRIGGER full_disk ON TABLE');
      };
    },
    struck: () => refused > 1,
  };
}

/** 13. No timer and no answer is looked at for so long, in any process of ours. */
export function blocked(forMs: number): FaultCase {
  let stoodStill = false;
  return {
    id: `13/blocked-for-${forMs}-ms`,
    arm: (world, seed) => {
      const next = random(seed);
      return async () => {
        await leading(world);
        await pause(next() * 1500);
        const programs = [world.operator, world.recorder];
        try {
          for (const program of programs) program.pause();
          await pause(forMs);
          stoodStill = programs.every((program) => program.standsStill);
        } finally {
          for (const program of programs) program.resume();
        }
      };
    },
    struck: () => stoodStill,
  };
}

/** 13. The wall clocks of our processes jump, forwards and back. */
export function clockJumps(): FaultCase {
  let jumped = false;
  return {
    id: '13/clock-jumps',
    world: { clock: true },
    arm: (world, seed) => {
      const next = random(seed);
      return async () => {
        await pause(300 + next() * 1000);
        world.setClock('+3600');
        // The leader's own time is in its lease.
        await world.until('the jump', async () => ((await world.renewedAt()) > Date.now() + HALF_HOUR_MS ? true : undefined));
        jumped = true;
        // Not further back: the certificates of the API server are an hour old.
        for (const offset of ['-1800', '+0'] as const) {
          world.setClock(offset);
          await pause(300 + next() * 1000);
        }
      };
    },
    struck: () => jumped,
  };
}

/** 13. So many arrive at once. */
export function flood(count: number): FaultCase {
  const script = { lines: [], exitCode: 0, durationMs: 20 };
  const names = Array.from({ length: count }, (_, index) => `flood-${index}`);
  let waiting = 0;
  return {
    id: `13/flood-of-${count}`,
    arm: (world) => async () => {
      const { body } = await world.api.get(world.path('evaluations'));
      waiting = (body['items'] as Json[]).filter((evaluation) => !isFinished(evaluation)).length;
    },
    // Once the last was there.
    struck: () => waiting > count / 2,
    otherwise: Object.fromEntries(names.map((name) => [name, ['Succeeded']])),
    parts: names.map((name) => ({ name, spec: {}, scripts: [script], produced: [], files: [] })),
  };
}

/** Before that nothing of ours could be disturbed. */
export async function leading(world: World): Promise<void> {
  await world.until('a leader', async () => ((await world.leader()) !== '' ? true : undefined));
}
