import { LABELS } from '@crucible/crds';
import { describe, expect, it } from 'vitest';
import { claimHolds, logState, podClaim, sandboxContainer, slimPod, type SandboxPod } from './pods.ts';

const JOB = { apiVersion: 'batch/v1', kind: 'Job', name: 'j', uid: 'job-1', controller: true };

function pod(
  change: { labels?: Record<string, string>; ownerReferences?: object[]; status?: object; spec?: object } = {},
): SandboxPod {
  const labels = {
    [LABELS.sandbox]: 'true',
    [LABELS.evaluationUid]: 'eval-1',
    [LABELS.attempt]: '2',
    ...change.labels,
  };
  const metadata = {
    name: 'p',
    namespace: 'evals',
    uid: 'pod-1',
    creationTimestamp: '2026-01-01T00:00:00Z',
    labels,
    ownerReferences: change.ownerReferences ?? [JOB],
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata,
    spec: change.spec ?? { nodeName: 'n' },
    status: change.status ?? {},
  } as SandboxPod;
}

const withState = (phase: string, state: object | undefined, more: object = {}) =>
  pod({ status: { phase, containerStatuses: state === undefined ? [] : [{ name: 'sandbox', state, ...more }] } });

const deleted = (subject: SandboxPod): SandboxPod => ({
  ...subject,
  metadata: { ...subject.metadata, deletionTimestamp: '2026-01-01T00:01:00Z' },
});

describe('logState', () => {
  it.each([
    ['pending', withState('Pending', undefined), { kind: 'waiting' }],
    ['pulling', withState('Pending', { waiting: { reason: 'ImagePullBackOff' } }), { kind: 'waiting' }],
    ['running', withState('Running', { running: { startedAt: 'x' } }), { kind: 'running' }],
    [
      'ended',
      withState('Succeeded', { terminated: { startedAt: 'x', containerID: 'c' } }),
      { kind: 'ended', doubtful: false },
    ],
    [
      'ended, pod not yet',
      withState('Running', { terminated: { startedAt: 'x', containerID: 'c' } }),
      { kind: 'ended', doubtful: false },
    ],
    [
      'running on a lost node',
      withState('Failed', { running: { startedAt: 'x' } }),
      { kind: 'ended', doubtful: false },
    ],
    [
      'ended while pulling',
      withState('Failed', { waiting: { reason: 'ContainerCreating' } }),
      { kind: 'neverStarted' },
    ],
    [
      'status unknown',
      withState('Failed', { terminated: { startedAt: null, reason: 'ContainerStatusUnknown' } }),
      { kind: 'ended', doubtful: true },
    ],
    ['refused by the kubelet', withState('Failed', undefined), { kind: 'ended', doubtful: true }],
    ['never scheduled', pod({ spec: {}, status: { phase: 'Failed' } }), { kind: 'neverStarted' }],
    ['not scheduled yet', pod({ spec: {}, status: { phase: 'Pending' } }), { kind: 'waiting' }],
    ['deleted unscheduled', deleted(pod({ spec: {}, status: { phase: 'Pending' } })), { kind: 'neverStarted' }],
    ['deleted on a node', deleted(pod({ status: { phase: 'Pending' } })), { kind: 'waiting' }],
    [
      'restarted by mistake',
      withState('Failed', { waiting: {} }, { lastState: { terminated: {} } }),
      { kind: 'ended', doubtful: false },
    ],
  ])('of a pod that is %s', (_, input, expected) => {
    expect(logState(input)).toEqual(expected);
    expect(logState(slimPod({ ...input }))).toEqual(expected);
  });

  it('looks at the sandbox container alone', () => {
    const status = {
      phase: 'Running',
      containerStatuses: [{ name: 'other', state: { terminated: { startedAt: 'x' } } }],
    };
    expect(logState(pod({ status }))).toEqual({ kind: 'waiting' });
  });
});

describe('podClaim', () => {
  it('reads identity from labels and the controlling Job', () => {
    expect(podClaim(pod())).toMatchObject({
      podUid: 'pod-1',
      jobUid: 'job-1',
      evaluationUid: 'eval-1',
      attempt: 2,
      namespace: 'evals',
      name: 'p',
    });
  });

  it.each([
    ['no controller', pod({ ownerReferences: [{ ...JOB, controller: false }] })],
    ['another kind of owner', pod({ ownerReferences: [{ ...JOB, kind: 'ReplicaSet' }] })],
    ['a Job of another API', pod({ ownerReferences: [{ ...JOB, apiVersion: 'evil/v1' }] })],
    ['no owner', pod({ ownerReferences: [] })],
    ['no sandbox label', pod({ labels: { [LABELS.sandbox]: 'false' } })],
    ['a strange attempt', pod({ labels: { [LABELS.attempt]: '1e3' } })],
  ])('is refused with %s', (_, input) => {
    expect(podClaim(input)).toBeUndefined();
  });
});

describe('claimHolds', () => {
  const claim = podClaim(pod())!;
  const owner = { evaluationUid: 'eval-1', attempt: 2, namespace: 'evals', podUid: undefined };

  it('needs agreement in everything the attempt knows', () => {
    expect(claimHolds(claim, owner)).toBe(true);
    expect(claimHolds(claim, { ...owner, podUid: 'pod-1' })).toBe(true);
    for (const change of [{ evaluationUid: 'eval-2' }, { attempt: 1 }, { namespace: 'other' }, { podUid: 'pod-2' }]) {
      expect(claimHolds(claim, { ...owner, ...change })).toBe(false);
    }
  });
});

describe('sandboxContainer', () => {
  const id = 'containerd://x';
  const end = { startedAt: '2026-01-01T00:00:00Z', containerID: id };

  it('says which container a log is of, and whether the kubelet has seen its end', () => {
    const running = withState('Running', { running: {} }, { containerID: id, restartCount: 0 });
    expect(sandboxContainer(running)).toEqual({ id, restarted: false, ended: false });
    expect(sandboxContainer(withState('Succeeded', { terminated: end }))).toEqual({ id, restarted: false, ended: true });
    expect(sandboxContainer(withState('Running', undefined))).toBeUndefined();
  });

  it('knows a container that is not the first', () => {
    const counted = withState('Failed', { terminated: end }, { restartCount: 1 });
    const remembered = withState('Failed', { terminated: end }, { lastState: { terminated: end } });
    for (const subject of [counted, remembered]) expect(sandboxContainer(subject)).toMatchObject({ restarted: true });
  });

  it('does not take for seen what the kubelet does not say', () => {
    // The garbage collector failed the pod: its node is gone.
    expect(sandboxContainer(withState('Failed', { running: {} }, { containerID: id }))).toMatchObject({ ended: false });
    const lost = { ...end, reason: 'ContainerStatusUnknown' };
    expect(sandboxContainer(withState('Failed', { terminated: lost }))).toMatchObject({ ended: false });
    expect(sandboxContainer(withState('Failed', { terminated: {} }))).toMatchObject({ ended: false });
  });
});
