import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareVersions, ObjectStore, PassingStore } from './object-store.ts';
import type { KubeObject } from './resources.ts';

const pod = (name: string, uid: string, version: number): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'evals', uid, resourceVersion: String(version) },
});

describe('ObjectStore', () => {
  it('does not let the end of an earlier object end the present one', () => {
    const store = new ObjectStore<KubeObject>(() => {});
    store.replace([pod('a', 'new', 10)], '10');
    expect(store.apply('DELETED', pod('a', 'old', 11))).toBe('disorder');
    expect(store.get('evals/a')?.metadata.uid).toBe('new');
  });

  it('compares versions beyond 2^53, and only versions', () => {
    expect(compareVersions('9007199254740993', '9007199254740992')).toBeGreaterThan(0);
    expect(compareVersions('9', '10')).toBeLessThan(0);
    expect(compareVersions('7', '7')).toBe(0);
    expect(compareVersions('abc', '7')).toBeUndefined();
    expect(compareVersions(undefined, '7')).toBeUndefined();
  });

  it('ends up right, or asks for a list, whatever lines are repeated, swapped or lost', () => {
    type Truth = { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: KubeObject }[];
    const history = fc.array(fc.tuple(fc.nat(2), fc.boolean()), { maxLength: 20 }).map((steps): Truth => {
      const live = new Map<string, string>();
      return steps.map(([n, remove], i) => {
        const name = `p${n}`;
        const uid = live.get(name);
        const version = i + 1;
        if (uid === undefined) live.set(name, `u${version}`);
        else if (remove) live.delete(name);
        const type = uid === undefined ? 'ADDED' : remove ? 'DELETED' : 'MODIFIED';
        return { type, object: pod(name, uid ?? `u${version}`, version) };
      });
    });
    // Repeats and swaps; nothing is lost, so without `disorder` the cache must be the truth.
    fc.assert(
      fc.property(history, fc.array(fc.tuple(fc.nat(19), fc.nat(19))), (truth, edits) => {
        const lines = [...truth];
        for (const [from, to] of edits) if (lines[from] !== undefined) lines.splice(to, 0, truth[from % truth.length]!);
        const seen = new Map<string, string>();
        const store = new ObjectStore<KubeObject>((key, current, previous) => {
          // Each change starts where the one before ended, and never turns one object into another.
          expect(previous?.metadata.uid).toBe(seen.get(key));
          if (current === undefined) seen.delete(key);
          else {
            expect([undefined, current.metadata.uid]).toContain(seen.get(key));
            seen.set(key, current.metadata.uid!);
          }
        });
        for (const { type, object } of lines) if (store.apply(type, object) === 'disorder') return;
        const expected = new Map<string, string>();
        for (const { type, object } of truth) {
          if (type === 'DELETED') expected.delete(object.metadata.name!);
          else expected.set(object.metadata.name!, object.metadata.resourceVersion!);
        }
        expect(
          new Map(store.list().map((object) => [object.metadata.name!, object.metadata.resourceVersion!])),
        ).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });
});

describe('PassingStore', () => {
  it('tells each version once, in order, and nothing of an end', () => {
    const told: string[] = [];
    const store = new PassingStore<KubeObject>((key, current) => told.push(`${key}@${current?.metadata.resourceVersion}`));
    store.replace([pod('a', 'u1', 9), pod('b', 'u2', 8)], '12');
    expect(store.apply('ADDED', pod('b', 'u2', 8))).toBe('duplicate');
    expect(store.apply('MODIFIED', pod('a', 'u1', 13))).toBe('applied');
    expect(store.apply('DELETED', pod('a', 'u1', 14))).toBe('applied');
    store.advance('20');
    store.advance('5');
    expect(store.version).toBe('20');
    // After a gap: what was told is not told again.
    store.replace([pod('a', 'u1', 13), pod('c', 'u3', 25), pod('d', 'u4', 22)], '30');
    expect(told).toEqual(['evals/b@8', 'evals/a@9', 'evals/a@13', 'evals/d@22', 'evals/c@25']);
    expect([store.size, store.list(), store.entries(), store.get()]).toEqual([0, [], [], undefined]);
  });

  it('tells all of a cluster that was restored from a backup', () => {
    const told: string[] = [];
    const store = new PassingStore<KubeObject>((key) => told.push(key));
    store.replace([], '1000');
    store.replace([pod('a', 'u1', 7)], '8');
    expect([told, store.version]).toEqual([['evals/a'], '8']);
  });
});
