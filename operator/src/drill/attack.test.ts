import { describe, expect, it } from 'vitest';
import type { Check, Finding } from './attack.ts';
import { countOutcomes, cut, judgeChecks, scoreRules } from './attack.ts';

const attack = { id: 'a', rule: 8, limits: [{ check: 'shm', platform: 'gvisor', reason: 'no cap' }] } as const;
const seen = (check: string, blocked: boolean | null, detail = ''): Check => ({ check, blocked, detail });
const outcome = (checks: Check[], expected: string[] = [], handler?: string) =>
  judgeChecks(attack, expected, checks, handler).outcome;

describe('judgeChecks', () => {
  it('is held only when everything expected was seen and blocked', () => {
    expect(outcome([seen('x', true), seen('y', true)], ['x', 'y'])).toBe('held');
    expect(outcome([seen('x', true)], ['x', 'y'])).toBe('open');
    expect(outcome([], [])).toBe('open');
    expect(outcome([seen('x', true), seen('y', null)], ['x'])).toBe('open');
  });

  it('is broken by one breach, whatever else is missing or unclear', () => {
    expect(outcome([seen('x', false), seen('y', null)], ['x', 'y', 'z'])).toBe('broken');
    expect(judgeChecks(attack, [], [seen('x', false, 'reply')], undefined).evidence).toBe('x: reply');
  });

  it('calls a known limit of a platform open, there and nowhere else', () => {
    expect(outcome([seen('shm', false)], ['shm'], 'runsc')).toBe('open');
    expect(outcome([seen('shm', false)], ['shm'], undefined)).toBe('broken');
    expect(outcome([seen('shm', false), seen('x', false)], [], 'runsc')).toBe('broken');
  });
});

describe('scoreRules', () => {
  const finding = (rule: number, outcome: Finding['outcome']): Finding => ({
    attack: `${rule}${outcome}`,
    rule,
    outcome,
    evidence: outcome,
  });

  it('takes the worst of a rule’s attacks, in the order of the rules', () => {
    const scores = scoreRules([finding(15, 'held'), finding(1, 'held'), finding(15, 'broken'), finding(15, 'open')]);
    expect(scores.map(({ rule, outcome }) => [rule, outcome])).toEqual([
      [1, 'held'],
      [15, 'broken'],
    ]);
    expect(countOutcomes(scores)).toEqual({ held: 1, broken: 1, open: 0 });
  });
});

it('evidence has no control characters and is short', () => {
  expect(cut('\x1b[2Ja\nb\u202ec')).toBe('·[2Ja·b·c');
  expect(cut('x'.repeat(1000))).toHaveLength(300);
});
