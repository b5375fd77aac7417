import { describe, expect, it } from 'vitest';
import type { Pod } from '../evaluation/objects.ts';
import { STUCK_MS, whyStuck } from './stuck.ts';

const pod = (phase: string, ...conditions: { type: string; status: string; message?: string }[]): Pod =>
  ({ metadata: { name: 'p' }, status: { phase, conditions } }) as Pod;
const scheduled = { type: 'PodScheduled', status: 'True' };

describe('a pod of the drill', () => {
  it('without a node is stuck, in the words of the scheduler', () => {
    const unscheduled = { type: 'PodScheduled', status: 'False', message: '0/1 nodes are available' };
    expect(whyStuck(pod('Pending', unscheduled), STUCK_MS)).toBe('no node takes it: 0/1 nodes are available');
    expect(whyStuck(pod('Pending', unscheduled), STUCK_MS - 1)).toBeUndefined();
  });

  it('without a sandbox is stuck', () => {
    const none = { type: 'PodReadyToStartContainers', status: 'False' };
    expect(whyStuck(pod('Pending', scheduled, none), STUCK_MS)).toBe('its node has made no sandbox within 30 s');
    expect(whyStuck(pod('Pending', scheduled, none), STUCK_MS - 1)).toBeUndefined();
  });

  it('that pulls its image, runs, has ended, or of whose sandbox nothing is told, is not', () => {
    const made = { type: 'PodReadyToStartContainers', status: 'True' };
    const gone = { type: 'PodReadyToStartContainers', status: 'False' };
    expect(whyStuck(pod('Pending', scheduled, made), 10 * STUCK_MS)).toBeUndefined();
    expect(whyStuck(pod('Pending', scheduled), 10 * STUCK_MS)).toBeUndefined();
    expect(whyStuck(pod('Running', scheduled, made), 10 * STUCK_MS)).toBeUndefined();
    expect(whyStuck(pod('Succeeded', scheduled, gone), 10 * STUCK_MS)).toBeUndefined();
  });
});
