import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareWaiting, grantOrder } from '@crucible/storage';
import type { QueueLimits, Share, Waiting } from '@crucible/storage';
import { AdmissionQueue } from './queue.ts';

const NAMESPACES = ['a', 'b', 'c', 'd'];
const namespace = fc.constantFrom(...NAMESPACES);
const waitingOne: fc.Arbitrary<Waiting> = fc.record({
  namespace,
  priority: fc.integer({ min: -2, max: 2 }),
  createdAt: fc.integer({ min: 1, max: 20 }),
  name: fc.string({ minLength: 1, maxLength: 4, unit: fc.constantFrom(...'xyz09') }),
});
const key = ({ namespace: space, name }: Waiting): string => `${space}/${name}`;
const waiting = fc.uniqueArray(waitingOne, { selector: key, maxLength: 40 });
const share: fc.Arbitrary<Share> = fc.record({ running: fc.nat(5), lastGrantAt: fc.nat(50) });
const shares = fc.dictionary(namespace, share);
const limits: fc.Arbitrary<QueueLimits> = fc.record({
  total: fc.integer({ min: 1, max: 6 }),
  namespaces: fc.dictionary(namespace, fc.integer({ min: 1, max: 4 })),
});

describe('grantOrder', () => {
  it('is all that wait, each once, whatever order they are given in', () => {
    fc.assert(
      fc.property(waiting, shares, limits, fc.func(fc.integer()), (all, has, most, shuffle) => {
        const order = grantOrder(all, has, most);
        expect(order.map(key).sort()).toEqual(all.map(key).sort());
        const shuffled = [...all].sort((a, b) => shuffle(key(a)) - shuffle(key(b)));
        expect(grantOrder(shuffled, has, most)).toEqual(order);
      }),
    );
  });

  it('inside a namespace: priority, then age', () => {
    fc.assert(
      fc.property(waiting, shares, limits, (all, has, most) => {
        for (const space of NAMESPACES) {
          const own = grantOrder(all, has, most).filter((one) => one.namespace === space);
          expect(own).toEqual([...own].sort(compareWaiting));
        }
      }),
    );
  });

  it('starves nobody: between two of one namespace every other that waits and is below its limit goes once', () => {
    fc.assert(
      fc.property(waiting, fc.integer({ min: 1, max: 6 }), (all, total) => {
        const order = grantOrder(all, {}, { total, namespaces: {} }).map((one) => one.namespace);
        order.forEach((space, index) => {
          const before = order.indexOf(space, index + 1);
          if (before < 0) return;
          const between = order.slice(index + 1, before);
          for (const other of new Set(order.slice(before))) if (other !== space) expect(between).toContain(other);
        });
      }),
    );
  });
});

interface Step {
  readonly kind: 'submit' | 'end' | 'cancel';
  readonly one: Waiting;
  readonly pick: number;
}
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('submit', 'submit', 'end', 'cancel'),
  one: waitingOne,
  pick: fc.nat(1000),
});

/** The queue beside a list of what runs and waits, kept in the simplest way. */
class Model {
  readonly running: Waiting[] = [];
  readonly waiting: Waiting[] = [];
  readonly shares: Record<string, Share> = {};
  readonly queue: AdmissionQueue;
  readonly granted: string[] = [];
  #time = 0;

  constructor(limits: QueueLimits) {
    const wake = (woken: string): void => void this.#begin(woken);
    this.queue = new AdmissionQueue({ limits, maxUncaptured: 1000, wake, now: () => (this.#time += 1) });
  }

  submit(one: Waiting): void {
    if ([...this.running, ...this.waiting].some((other) => key(other) === key(one))) return;
    this.waiting.push(one);
    if (this.queue.request(key(one), one)) this.#begin(key(one));
  }

  end(pick: number): void {
    const one = this.running[pick % Math.max(1, this.running.length)];
    if (one === undefined) return;
    this.running.splice(this.running.indexOf(one), 1);
    const had = this.shares[one.namespace]!;
    this.shares[one.namespace] = { ...had, running: had.running - 1 };
    this.queue.release(key(one), one.namespace);
  }

  cancel(pick: number): void {
    const one = this.waiting[pick % Math.max(1, this.waiting.length)];
    if (one === undefined) return;
    this.waiting.splice(this.waiting.indexOf(one), 1);
    this.queue.release(key(one), one.namespace);
  }

  #begin(begun: string): void {
    const index = this.waiting.findIndex((one) => key(one) === begun);
    const [one] = this.waiting.splice(index, 1);
    this.running.push(one!);
    this.granted.push(begun);
    const running = (this.shares[one!.namespace]?.running ?? 0) + 1;
    this.shares[one!.namespace] = { running, lastGrantAt: this.granted.length };
  }
}

describe('AdmissionQueue, against a model', () => {
  it('keeps every limit, leaves no place empty that somebody could have, and follows grantOrder', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), limits, (steps, most) => {
        const model = new Model(most);
        for (const { kind, one, pick } of steps) {
          const [before, { length }] = [[...model.waiting], model.granted];
          const had = { ...model.shares };
          if (kind === 'submit') model.submit(one);
          else if (kind === 'end') model.end(pick);
          else model.cancel(pick);
          const grant = model.granted[length];
          if (kind === 'end' && grant !== undefined) {
            const after = model.shares;
            const ended = Object.fromEntries(
              Object.entries(had).map(([space, value]) => [space, after[space]!.lastGrantAt > length ? { ...value, running: after[space]!.running - 1 } : after[space]!]),
            );
            expect(grant).toBe(key(grantOrder(before, ended, most)[0]!));
          }
          const count = (space: string): number => model.running.filter((other) => other.namespace === space).length;
          expect(model.running.length).toBeLessThanOrEqual(most.total);
          for (const space of NAMESPACES) expect(count(space)).toBeLessThanOrEqual(most.namespaces[space] ?? Infinity);
          expect([model.queue.running, model.queue.waiting]).toEqual([model.running.length, model.waiting.length]);
          const could = model.waiting.some((other) => count(other.namespace) < (most.namespaces[other.namespace] ?? Infinity));
          if (could) expect(model.running.length).toBe(most.total);
        }
      }),
    );
  });

  it('starves nobody in a stream without end: each gets its place after a bounded number of others', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.array(namespace, { minLength: 30, maxLength: 60 }), (total, greedy) => {
        const model = new Model({ total, namespaces: {} });
        greedy.forEach((space, index) => model.submit({ namespace: space, name: `g${index}`, priority: 5, createdAt: index }));
        const late = { namespace: 'late', name: 'one', priority: -5, createdAt: 1000 };
        model.submit(late);
        const since = model.granted.length;
        for (let index = 0; !model.granted.includes('late/one'); index += 1) {
          // Each end is answered by a new submission of the greedy ones.
          model.submit({ namespace: greedy[index % greedy.length]!, name: `n${index}`, priority: 5, createdAt: 2000 + index });
          model.end(index);
          expect(model.granted.length - since).toBeLessThanOrEqual(NAMESPACES.length + 1);
        }
      }),
    );
  });
});
