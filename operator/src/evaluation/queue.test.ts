import { describe, expect, it } from 'vitest';
import { AdmissionQueue } from './queue.ts';

interface Options {
  namespaces?: Record<string, number>;
  maxUncaptured?: number;
}

function queue(total: number, { namespaces = {}, maxUncaptured = 100 }: Options = {}) {
  const woken: string[] = [];
  let time = 0;
  const turns = new AdmissionQueue({
    limits: { total, namespaces },
    maxUncaptured,
    wake: (key) => woken.push(key),
    now: () => time,
  });
  let clock = 0;
  const ask = (key: string, priority = 0, createdAt = (clock += 1)): boolean => {
    time += 1;
    const [namespace = '', name = ''] = key.split('/');
    return turns.request(key, { namespace, priority, createdAt, name });
  };
  return { turns, woken, ask };
}

describe('AdmissionQueue', () => {
  it('grants up to its limit, then wakes the next when a place is free', () => {
    const { turns, woken, ask } = queue(1);
    expect(ask('a/1')).toBe(true);
    expect(ask('a/1')).toBe(true);
    expect(ask('a/2')).toBe(false);
    turns.release('a/1', 'a');
    expect(woken).toEqual(['a/2']);
    expect(turns.has('a/2')).toBe(true);
    expect([turns.running, turns.waiting]).toEqual([1, 0]);
  });

  it('one without a place that is not captured yet holds others back however often it is looked at', () => {
    const { turns, woken, ask } = queue(5, { maxUncaptured: 1 });
    turns.setUncaptured('a/kueue', true);
    expect(ask('a/1')).toBe(false);
    turns.release('a/kueue', 'a', true);
    expect(woken).toEqual([]);
    turns.setUncaptured('a/kueue', false);
    expect(woken).toEqual(['a/1']);
  });

  it('takes the namespace with the fewest running first, then priority, then age', () => {
    const { turns, woken, ask } = queue(2);
    ask('a/1');
    ask('a/2');
    ask('a/3');
    ask('b/old');
    ask('b/high', 10);
    ask('b/older', 0, 0);
    turns.release('a/1', 'a');
    turns.release('a/2', 'a');
    turns.release('b/high', 'b');
    turns.release('a/3', 'a');
    expect(woken).toEqual(['b/high', 'a/3', 'b/older', 'b/old']);
  });

  it('with one place, namespaces take turns however much one of them submits', () => {
    const { turns, woken, ask } = queue(1);
    for (let index = 1; index <= 5; index += 1) ask(`a/${index}`);
    ask('b/1');
    ask('b/2');
    for (const key of ['a/1', 'b/1', 'a/2', 'b/2', 'a/3']) turns.release(key, key[0]!);
    expect(woken).toEqual(['b/1', 'a/2', 'b/2', 'a/3', 'a/4']);
  });

  it('counts those that have a Job already, even over the limit', () => {
    const { turns, ask } = queue(1);
    turns.hold('a/1', 'a');
    turns.hold('a/2', 'a');
    expect(turns.running).toBe(2);
    turns.release('a/1', 'a');
    expect(ask('b/1')).toBe(false);
    turns.release('a/2', 'a');
    expect(turns.has('b/1')).toBe(true);
  });

  it('forgets one that no longer wants a place', () => {
    const { turns, woken, ask } = queue(1);
    ask('a/1');
    ask('a/2');
    turns.release('a/2', 'a');
    turns.release('a/1', 'a');
    expect(woken).toEqual([]);
    expect([turns.running, turns.waiting]).toEqual([0, 0]);
  });

  it('holds a namespace to its own limit, and the others go on', () => {
    const { turns, woken, ask } = queue(3, { namespaces: { a: 1 } });
    expect([ask('a/1'), ask('a/2'), ask('b/1'), ask('b/2'), ask('b/3')]).toEqual([true, false, true, true, false]);
    expect([turns.heldBack('a'), turns.heldBack('b')]).toEqual(['NamespaceLimit', 'GlobalLimit']);
    expect(turns.waitingByReason()).toEqual({ GlobalLimit: 1, NamespaceLimit: 1, CaptureBacklog: 0 });
    turns.release('b/1', 'b');
    expect(woken).toEqual(['b/3']);
    turns.release('a/1', 'a');
    expect(woken).toEqual(['b/3', 'a/2']);
  });

  it('begins nothing while too many ended runs are not captured', () => {
    const { turns, woken, ask } = queue(10, { maxUncaptured: 2 });
    ask('a/1');
    ask('a/2');
    turns.setUncaptured('a/1', true);
    expect(ask('a/3')).toBe(true);
    turns.setUncaptured('a/2', true);
    expect(ask('a/4')).toBe(false);
    expect(turns.heldBack('a')).toBe('CaptureBacklog');
    turns.release('a/1', 'a');
    expect(woken).toEqual(['a/4']);
    turns.setUncaptured('a/3', true);
    expect(ask('a/5')).toBe(false);
    turns.setUncaptured('a/3', false);
    expect(turns.has('a/5')).toBe(true);
  });

  it('names those whose status says another reason than the present one, a few at a time', () => {
    const { turns, ask } = queue(2, { namespaces: { a: 2 } });
    ask('b/1');
    ask('a/1');
    for (const name of ['2', '3', '4']) ask(`a/${name}`);
    expect(turns.outdated(10)).toEqual([]);
    turns.release('b/1', 'b'); // a/2 begins: now the namespace is at its own limit
    expect(turns.outdated(10)).toEqual(['a/3', 'a/4']);
    expect(turns.outdated(1)).toEqual(['a/3']);
    ask('a/3', 0, 4);
    expect(turns.outdated(10)).toEqual(['a/4']);
  });
});
