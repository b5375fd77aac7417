import { expect, it } from 'vitest';
import type { DrillFacts } from './attack.ts';
import { CATALOGUE } from './catalogue/index.ts';
import { runDrill } from './drill.ts';
import type { DrillRunner } from './runner.ts';

const facts: DrillFacts = { runtimeClass: 'nowhere', handler: undefined, kernels: [], policies: [], missingClass: undefined };

it('a class under which no sandbox starts: every attack says why, and no other sandbox waits for what the first one did', async () => {
  const started: string[] = [];
  const start = async (_: string, what: string) => {
    started.push(what);
    return { namespace: 'evals', name: what, uid: what };
  };
  let removed = 0;
  const runner = {
    start,
    startPeer: (id: string) => start(id, 'peer'),
    address: async () => ({ stuck: 'no node takes it: 0/1 nodes are available' }),
    refusal: async () => ({ reason: 'RuntimeClassNotFound', attempts: 0 }),
    remove: async (all: readonly unknown[]) => void (removed = all.length),
  } as unknown as DrillRunner;
  const findings = await runDrill({
    id: '0c0ffee0-0000-4000-8000-000000000000',
    runtimeClass: 'nowhere',
    attacks: CATALOGUE,
    facts,
    metadataAddresses: [],
    askControl: async () => ({ problem: 'played' }),
    askPeer: async () => ({ blocked: null, detail: 'played' }),
    runner,
    signal: new AbortController().signal,
    now: () => Date.now(),
  });
  expect(started).toEqual(['peer', 'missing-class']);
  expect(removed).toBe(2);
  expect(findings.map(({ attack }) => attack)).toEqual(CATALOGUE.map(({ id }) => id));
  const factual = CATALOGUE.filter(({ method }) => method.kind === 'facts').map(({ id }) => id);
  for (const { attack, outcome, evidence } of findings.filter((one) => !factual.includes(one.attack)))
    expect({ attack, outcome, evidence }).toEqual({
      attack,
      outcome: 'open',
      evidence: 'no sandbox of this class starts: no node takes it: 0/1 nodes are available',
    });
});
