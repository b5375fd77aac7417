import { describe, expect, it } from 'vitest';
import type { Finding } from './attack.ts';
import type { Gate } from './gate.ts';
import { judgeClass, passage } from './gate.ts';

const QUICK = new Set([1, 15]);
const found = (rule: number, outcome: Finding['outcome']): Finding => ({
  attack: `a${rule}`,
  rule,
  outcome,
  evidence: 'seen',
});
const held = [found(1, 'held'), found(15, 'held')];
const risk = (rules: number[], runtimeClass?: string) => ({ runtimeClass, rules, reason: 'we know' });

describe('judgeClass', () => {
  it('is open when every quick rule holds, whatever other rules leave open', () => {
    expect(judgeClass('', [...held, found(22, 'open')], QUICK, [])).toEqual({ state: 'open', risks: [] });
  });

  it('is closed by any broken rule, with its number and evidence', () => {
    const state = judgeClass('gvisor', [...held, found(22, 'broken')], QUICK, []);
    expect(state).toMatchObject({ state: 'closed', closed: { reason: 'DrillFailed' } });
    expect(JSON.stringify(state)).toContain('The drill of RuntimeClass gvisor found rule 22 broken: seen');
  });

  it('is closed by a quick rule that could not be shown', () => {
    expect(judgeClass('', [held[0]!, found(15, 'open')], QUICK, [])).toMatchObject({
      closed: { reason: 'DrillIncomplete' },
    });
  });

  it('lets through what is accepted by name, for that class and those rules only, and says which', () => {
    const broken = [held[0]!, found(15, 'broken')];
    expect(judgeClass('', broken, QUICK, [risk([15, 17])])).toEqual({ state: 'open', risks: [risk([15])] });
    expect(judgeClass('', broken, QUICK, [risk([15], 'gvisor')]).state).toBe('closed');
    expect(judgeClass('gvisor', broken, QUICK, [risk([15])]).state).toBe('closed');
    expect(judgeClass('', [...broken, found(1, 'broken')], QUICK, [risk([15])])).toMatchObject({
      closed: { message: expect.stringContaining('rule 1 broken') as string },
    });
    expect(judgeClass('', held, QUICK, [risk([15])])).toEqual({ state: 'open', risks: [] });
  });

  it('keeps its message within a status’s bounds', () => {
    const long = [{ ...found(15, 'broken'), evidence: 'x'.repeat(300) }];
    const state = judgeClass('n'.repeat(63), long, QUICK, []);
    expect(state.state === 'closed' && state.closed.message.length).toBeLessThanOrEqual(256);
  });
});

describe('passage', () => {
  const gate = (changes: Partial<Gate> = {}): Gate => ({
    exempt: false,
    namespace: undefined,
    classes: new Map([['', { state: 'open', risks: [] }]]),
    ...changes,
  });
  const closed = { reason: 'ForeignNetworkPolicy', message: 'm' } as const;

  it('is closed for a class that was never drilled', () => {
    expect(passage(gate(), undefined).open).toBe(true);
    expect(passage(gate(), 'gvisor')).toMatchObject({ open: false, reason: 'DrillPending' });
    expect(passage(gate({ classes: new Map() }), undefined).open).toBe(false);
  });

  it('is closed for a namespace whatever its classes are', () => {
    expect(passage(gate({ namespace: closed }), undefined)).toMatchObject({ open: false, ...closed });
  });

  it('is always open to the drill’s own', () => {
    expect(passage(gate({ exempt: true, namespace: closed, classes: new Map() }), undefined).open).toBe(true);
  });
});
