import { describe, expect, it } from 'vitest';
import type { Pod } from '../evaluation/objects.ts';
import type { RawEvaluation } from '../evaluation/snapshot.ts';
import { STUCK_MS, whyStuck } from './stuck.ts';

const pod = (phase: string, scheduled: string, message?: string): Pod =>
  ({ metadata: { name: 'p' }, status: { phase, conditions: [{ type: 'PodScheduled', status: scheduled, message }] } }) as Pod;
const run = (status: object = {}): RawEvaluation => ({ metadata: { name: 'e' }, status }) as RawEvaluation;
const ended = (attributableTo: string, message: string): RawEvaluation =>
  run({ phase: 'Failed', conditions: [{ type: 'Finished', status: 'True' }], verdict: { class: 'X', attributableTo, message } });

describe('a run of the drill', () => {
  it('whose pod no node takes is stuck after a while, in the words of the scheduler', () => {
    const pods = [pod('Pending', 'False', '0/1 nodes are available')];
    expect(whyStuck(run(), pods, STUCK_MS)).toBe('no node takes it: 0/1 nodes are available');
    expect(whyStuck(run(), pods, STUCK_MS - 1)).toBeUndefined();
  });

  it('that is refused, or ended without the code’s doing, is stuck at once', () => {
    const conditions = [{ type: 'Accepted', status: 'False', message: 'The cluster has no RuntimeClass "x"' }];
    expect(whyStuck(run({ conditions }), [], 0)).toBe('The cluster has no RuntimeClass "x"');
    expect(whyStuck(ended('Policy', 'The node does not offer the sandbox runtime.'), [], 0)).toContain('does not offer');
  });

  it('that waits for its turn, pulls its image, runs, or was ended by its own code, is not', () => {
    const waits = run({ conditions: [{ type: 'Accepted', status: 'Unknown', message: 'it waits' }] });
    expect(whyStuck(waits, [], 10 * STUCK_MS)).toBeUndefined();
    expect(whyStuck(run(), [pod('Pending', 'True')], 10 * STUCK_MS)).toBeUndefined();
    expect(whyStuck(run(), [pod('Running', 'True')], 10 * STUCK_MS)).toBeUndefined();
    expect(whyStuck(ended('Code', 'The code exited with code 1.'), [], 10 * STUCK_MS)).toBeUndefined();
  });
});
