import { describe, expect, it, vi } from 'vitest';
import type { Finding } from './attack.ts';
import { QUICK } from './catalogue/index.ts';
import { Knowledge } from './knowledge.ts';

const finding = (attack: string, rule: number, outcome: Finding['outcome']): Finding => ({
  attack,
  rule,
  outcome,
  evidence: '',
});
const recalling = async (...broken: Finding[]): Promise<Knowledge> => {
  const knowledge = new Knowledge();
  await knowledge.recall(async () => broken);
  return knowledge;
};

describe('Knowledge', () => {
  it('recalls what was broken, once, and repeats it beside the quick ones', async () => {
    const knowledge = await recalling(finding('forks', 22, 'broken'), finding('identity', 1, 'broken'));
    expect(knowledge.brokenBeyond(QUICK).map(({ id }) => id)).toEqual(['forks']);
    knowledge.learn([finding('forks', 22, 'held')]);
    await knowledge.recall(async () => [finding('forks', 22, 'broken')]);
    expect(knowledge.brokenBeyond(QUICK)).toEqual([]);
  });

  it('asks again after the record could not be asked', async () => {
    const knowledge = new Knowledge();
    await expect(knowledge.recall(() => Promise.reject(new Error('away')))).rejects.toThrow('away');
    await knowledge.recall(async () => [finding('forks', 22, 'broken')]);
    expect(knowledge.findings()).toHaveLength(1);
  });

  it('has another attack on the rule stand in for one that is no more', async () => {
    const knowledge = await recalling(finding('renamed-since', 22, 'broken'), finding('unheard-of', 99, 'broken'));
    expect(knowledge.findings()).toMatchObject([{ attack: 'memory', rule: 22, outcome: 'broken' }]);
  });

  it('knows nothing of a runtime that has taken over a name', async () => {
    const record = vi.fn(async () => [finding('forks', 22, 'broken')]);
    await Knowledge.ofNothing().recall(record);
    expect(record).not.toHaveBeenCalled();
  });
});
