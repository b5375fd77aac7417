import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubeClient } from './client.ts';
import { LeaderElector, type LeaderElectorOptions } from './leader.ts';
import { FakeClock } from './testing.ts';
import { ScriptedServer, type Exchange } from './testing-server.ts';
import type { LeaderTerm } from './types.ts';

const PERIOD_MS = 2000;
const DEADLINE_MS = 10_000;
const DURATION_MS = 15_000;

/** What the API server does with one Lease: optimistic locking. */
class LeaseServer {
  lease: any;
  /** What to do with a request instead. */
  fault: ((exchange: Exchange) => boolean) | undefined;
  requests = 0;
  #version = 0;

  handle(exchange: Exchange): void {
    this.requests += 1;
    if (this.fault?.(exchange)) return;
    if (exchange.method === 'GET') return this.lease ? exchange.json(this.lease) : exchange.fail(404, 'NotFound');
    const wanted = exchange.body;
    if (exchange.method === 'POST' && this.lease) return exchange.fail(409, 'AlreadyExists');
    if (exchange.method === 'PUT') {
      if (!this.lease) return exchange.fail(404, 'NotFound');
      if (wanted.metadata.resourceVersion !== this.lease.metadata.resourceVersion)
        return exchange.fail(409, 'Conflict');
    }
    exchange.json(this.write(wanted));
  }

  write(lease: any): any {
    this.#version += 1;
    this.lease = { ...lease, metadata: { ...lease.metadata, resourceVersion: String(this.#version) } };
    return this.lease;
  }

  /** As another process would write it, whose clock is far off. */
  heldBy(holderIdentity: string, leaseTransitions = 3): void {
    this.write({
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'operator', namespace: 'sys' },
      spec: { holderIdentity, leaseDurationSeconds: 15, leaseTransitions, renewTime: '2001-01-01T00:00:00.000000Z' },
    });
  }
}

let server: ScriptedServer;
let leases: LeaseServer;
let clock: FakeClock;
let electors: LeaderElector[];
let client: KubeClient;

beforeEach(async () => {
  server = await ScriptedServer.start();
  leases = new LeaseServer();
  server.handler = (exchange) => leases.handle(exchange);
  clock = new FakeClock();
  electors = [];
  client = new KubeClient({ access: server.access(), logger: pino({ level: 'silent' }), clock, random: () => 0 });
});

afterEach(async () => {
  leases.fault = undefined;
  await Promise.all(electors.map((elector) => elector.stop()));
  await client.close();
  await server.close();
});

function elect(identity: string, options: Partial<LeaderElectorOptions> = {}) {
  const log: string[] = [];
  const terms: LeaderTerm[] = [];
  const elector = new LeaderElector({
    client,
    namespace: 'sys',
    name: 'operator',
    identity,
    logger: pino({ level: 'silent' }),
    clock,
    random: () => 0,
    onStarted: (term) => {
      terms.push(term);
      log.push(`started ${term.epoch}`);
    },
    onStopped: (reason) => {
      log.push(reason);
    },
    ...options,
  });
  electors.push(elector);
  elector.start();
  return { elector, log, terms };
}

/** Until the elector waits for its next turn: no call is under way. */
const idle = async (): Promise<void> => void (await clock.timer((ms) => ms <= PERIOD_MS));

async function turns(n: number): Promise<void> {
  for (let i = 0; i < n; i += 1) {
    await idle();
    await clock.advance(PERIOD_MS);
  }
  await idle();
}

describe('LeaderElector', () => {
  it('creates the lease, with times of six digits', async () => {
    const { elector, log } = elect('a');
    await idle();
    expect(leases.lease).toMatchObject({
      metadata: { name: 'operator', namespace: 'sys' },
      spec: { holderIdentity: 'a', leaseDurationSeconds: 15, leaseTransitions: 1 },
    });
    expect(leases.lease.spec.renewTime).toBe('2026-01-02T03:04:05.678000Z');
    expect(leases.lease.spec.acquireTime).toMatch(/\.\d{6}Z$/);
    expect(log).toEqual(['started 1']);
    expect([elector.isLeader(), elector.epoch]).toEqual([true, 1]);
  });

  it('renews, and keeps what others wrote into the lease', async () => {
    const { elector, log } = elect('a');
    await turns(1);
    leases.write({ ...leases.lease, metadata: { ...leases.lease.metadata, labels: { team: 'x' } } });
    await turns(20);
    expect(leases.lease.metadata.labels).toEqual({ team: 'x' });
    expect(leases.lease.spec).toMatchObject({
      holderIdentity: 'a',
      leaseTransitions: 1,
      renewTime: '2026-01-02T03:04:47.678000Z',
    });
    expect(elector.isLeader()).toBe(true);
    expect(log).toEqual(['started 1']);
  });

  it('judges expiry by what it saw, not by the times in the lease', async () => {
    leases.heldBy('other');
    const { elector, log } = elect('b');
    await turns(7);
    expect(elector.isLeader()).toBe(false);
    // Sees it alive after 14 s: the wait begins anew.
    leases.heldBy('other');
    await turns(8);
    expect(log).toEqual([]);
    await turns(1);
    expect(log).toEqual(['started 4']);
    expect(elector.isLeader()).toBe(true);
  });

  it('does not notice when the wall clock jumps', async () => {
    leases.heldBy('other');
    const { log } = elect('b');
    await turns(1);
    clock.jump(3_600_000);
    await turns(5);
    expect(log).toEqual([]);
  });

  it('takes a released lease at once', async () => {
    leases.heldBy('', 7);
    const { log } = elect('b');
    await idle();
    expect(log).toEqual(['started 8']);
  });

  it('gets an epoch above all that were used, though the lease was deleted', async () => {
    const { log } = elect('a', { epochFloor: async () => 41 });
    await idle();
    expect(log).toEqual(['started 42']);
    expect(leases.lease.spec.leaseTransitions).toBe(42);
  });

  it('does not lead when the epoch cannot be known', async () => {
    let down = true;
    const { log } = elect('a', {
      epochFloor: async () => {
        if (down) throw new Error('database away');
        return 0;
      },
    });
    await turns(3);
    expect(log).toEqual([]);
    down = false;
    await turns(1);
    expect(log).toEqual(['started 1']);
  });

  it('goes on counting from a lease that is there while the database is away', async () => {
    leases.heldBy('', 7);
    const { log } = elect('a', { epochFloor: () => Promise.reject(new Error('database away')) });
    await turns(1);
    expect(log).toEqual(['started 8']);
  });

  it('stops before the lease runs out when it cannot renew', async () => {
    const { elector, log, terms } = elect('a');
    await idle();
    leases.fault = (exchange) => {
      exchange.fail(500, 'InternalError');
      return true;
    };
    await turns(4);
    expect(elector.isLeader()).toBe(true);
    await clock.advance(DEADLINE_MS - 4 * PERIOD_MS);
    expect(elector.isLeader()).toBe(false);
    await idle();
    expect(terms[0]!.signal.aborted).toBe(true);
    expect(log).toEqual(['started 1', 'lost']);
    expect(DEADLINE_MS).toBeLessThan(DURATION_MS);
  });

  it('stops in time also when the server does not answer at all', async () => {
    const { elector, log } = elect('a');
    await idle();
    const hanging: Exchange[] = [];
    leases.fault = (exchange) => hanging.push(exchange) > 0;
    await clock.advance(PERIOD_MS);
    for (let ms = PERIOD_MS; ms < DEADLINE_MS; ms += 500) {
      const call = clock.timer(() => true);
      await call;
      await clock.advance(500);
    }
    expect(elector.isLeader()).toBe(false);
    await clock.timer((ms) => ms === PERIOD_MS);
    expect(log).toEqual(['started 1', 'lost']);
    leases.fault = undefined;
    for (const exchange of hanging) exchange.cut();
    await turns(1);
    expect(log).toEqual(['started 1', 'lost', 'started 2']);
  });

  it('knows at once that it was paused for too long', async () => {
    const { elector } = elect('a');
    await idle();
    const monotonic = clock.monotonic.bind(clock);
    // No timer has run yet, as after SIGCONT.
    clock.monotonic = () => monotonic() + DEADLINE_MS;
    expect(elector.isLeader()).toBe(false);
    clock.monotonic = monotonic;
  });

  it('gives way to whoever took the lease meanwhile, and tries again', async () => {
    const { elector, log, terms } = elect('a');
    await idle();
    leases.heldBy('b', 2);
    await turns(1);
    expect(log).toEqual(['started 1', 'lost']);
    expect(terms[0]!.signal.aborted).toBe(true);
    expect(elector.epoch).toBeUndefined();
    await turns(10);
    expect(log).toEqual(['started 1', 'lost', 'started 3']);
  });

  it('survives a renewal whose answer was lost', async () => {
    const { elector, log } = elect('a');
    await idle();
    leases.fault = (exchange) => {
      leases.fault = undefined;
      leases.write(exchange.body);
      exchange.fail(500, 'InternalError');
      return true;
    };
    await turns(3);
    expect(elector.isLeader()).toBe(true);
    expect(log).toEqual(['started 1']);
  });

  it('hands over: holds the lease while the work ends, then lets go', async () => {
    const end = Promise.withResolvers<void>();
    const first = elect('a', { onStopped: () => end.promise });
    await idle();
    const stopping = first.elector.stop();
    // Draining for longer than the lease lasts.
    await turns(10);
    expect(first.terms[0]!.signal.aborted).toBe(true);
    expect(leases.lease.spec.holderIdentity).toBe('a');
    end.resolve();
    await stopping;
    expect(leases.lease.spec.holderIdentity ?? '').toBe('');
    expect(first.elector.isLeader()).toBe(false);
    const second = elect('b');
    await idle();
    expect(second.log).toEqual(['started 2']);
  });

  it('ends the term when its work fails, and lets go', async () => {
    let fail = true;
    const { log } = elect('a', {
      onStarted: async () => {
        if (fail) throw new Error('no');
        log.push('works');
      },
    });
    await idle();
    fail = false;
    await turns(1);
    expect(log).toEqual(['failed', 'works']);
    expect(leases.lease.spec.leaseTransitions).toBe(2);
  });

  it('never has two leaders', async () => {
    const [a, b] = [elect('a'), elect('b')];
    let led = 0;
    for (let i = 0; i < 40; i += 1) {
      // From time to time whoever leads is cut off for a while.
      if (i % 15 === 5)
        leases.fault = (exchange) =>
          exchange.text.includes(`"holderIdentity":"${a.elector.isLeader() ? 'a' : 'b'}"`) &&
          (exchange.fail(500, 'x'), true);
      if (i % 15 === 13) leases.fault = undefined;
      await clock.timer(() => true);
      await clock.advance(1000);
      expect(a.elector.isLeader() && b.elector.isLeader()).toBe(false);
      if (a.elector.isLeader() || b.elector.isLeader()) led += 1;
    }
    expect(led).toBeGreaterThan(10);
  });

  it('stops while it waits for another, without touching the lease', async () => {
    leases.heldBy('other');
    const { elector, log } = elect('b');
    await idle();
    await elector.stop();
    expect(leases.lease.spec.holderIdentity).toBe('other');
    expect(log).toEqual([]);
    expect(clock.pending).toEqual([]);
  });
});
