import { LIMITS } from '@crucible/crds';
import { describe, expect, it } from 'vitest';
import { TARGETS_EXPRESSION, canaryProgram } from './canary.ts';
import { CATALOGUE, QUICK } from './catalogue/index.ts';
import { judgeKernel } from './catalogue/kernel.ts';

describe('the catalogue', () => {
  it('covers every rule of the contract', () => {
    const covered = new Set(CATALOGUE.map(({ rule }) => rule));
    expect([...covered].sort((a, b) => a - b)).toEqual(Array.from({ length: 31 }, (_, index) => index + 1));
  });

  it('has the rules that matter most in the quick drill', () => {
    const rules = new Set(QUICK.map(({ rule }) => rule));
    expect([...rules].sort((a, b) => a - b)).toEqual([1, 3, 4, 7, 9, 15, 16, 17, 18, 19, 20, 30, 31]);
    // Its programs fit into one canary: everything else would take too long.
    expect(QUICK.every(({ method }) => method.kind !== 'alone')).toBe(true);
  });

  it.each(CATALOGUE.map((attack) => [attack.id, attack] as const))(
    '%s says what it tries, why, and what it proves',
    (id, attack) => {
      expect(id).toMatch(/^[a-z][a-z-]{2,40}$/);
      expect(CATALOGUE.filter((other) => other.id === id)).toHaveLength(1);
      for (const text of [attack.tries, attack.why, attack.proves]) expect(text).toMatch(/^\S.{15,}\.$/s);
      expect(attack.title.length).toBeLessThanOrEqual(128);
      const { method } = attack;
      if (method.kind === 'inside') {
        expect(method.source).toContain(`@attack('${id}')`);
        expect(method.checks.length).toBeGreaterThan(0);
      }
      for (const limit of attack.limits ?? []) expect(limit.reason.length).toBeGreaterThan(10);
    },
  );

  it('fits into one evaluation', () => {
    expect(Buffer.byteLength(canaryProgram(CATALOGUE, TARGETS_EXPRESSION))).toBeLessThan(LIMITS.sourceBytes / 2);
  });
});

describe('judgeKernel', () => {
  const seen = (detail: string) => [{ check: 'kernel', blocked: true, detail }];
  const judged = (detail: string, handler?: string) =>
    judgeKernel(seen(detail), { handler, kernels: ['6.1.0'] })[0]!.blocked;

  it('wants gVisor’s kernel under gVisor, and another than the node’s in a virtual machine', () => {
    expect(judged('4.19.0-gvisor | Linux version 4.19.0-gvisor', 'runsc')).toBe(true);
    expect(judged('6.1.0 | Linux version 6.1.0', 'runsc')).toBe(false);
    expect(judged('6.1.0 | Linux', 'kata-qemu')).toBe(false);
    expect(judged('5.19.2 | Linux', 'kata-qemu')).toBe(true);
    for (const handler of [undefined, 'runc', 'crun']) expect(judged('6.1.0 | Linux', handler)).toBe(true);
    expect(judged('5.19.2 | Linux', 'runc')).toBeNull();
    // What it should be is not known.
    expect(judged('6.1.0 | Linux', 'strong')).toBeNull();
  });
});
