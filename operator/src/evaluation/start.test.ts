import { describe, expect, it } from 'vitest';
import type { KubeEvent, Pod } from './objects.ts';
import { failingStart, judgeStart } from './start.ts';
import { NOW, POD_UID, at, job, pod, settings } from './testing/builders.ts';

const { patience } = settings();
const warning = (reason: string, message: string): KubeEvent => ({
  apiVersion: 'v1',
  kind: 'Event',
  metadata: {},
  reason,
  message,
  type: 'Warning',
});
const QUOTA = warning('FailedCreate', 'Error creating: pods "x" is forbidden: exceeded quota: evals, requested: cpu=1');
const REFUSED = warning(
  'FailedCreate',
  'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest"',
);
const CLASS = warning(
  'FailedCreate',
  'Error creating: pods "x" is forbidden: pod rejected: RuntimeClass "gvisor" not found',
);

function start(subject: Pod | undefined, warnings: KubeEvent[] = [], jobAge = 5, failing?: number): string {
  const result = judgeStart({
    job: job({ metadata: { creationTimestamp: at(-jobAge) } }),
    pod: subject,
    warnings,
    image: 'a/b:1',
    failingSince: failing === undefined ? undefined : NOW - failing * 1000,
    now: NOW,
    patience,
  });
  return result.kind === 'waiting' ? result.reason : `${result.verdict.class}/${result.verdict.attributableTo}`;
}

describe('judgeStart', () => {
  it.each<[string, Pod | undefined, KubeEvent[], number, string, number?]>([
    ['no pod yet', undefined, [], 5, 'PodPending'],
    ['no pod for too long', undefined, [], 301, 'InternalError/Infrastructure'],
    ['quota, for now', undefined, [QUOTA], 5, 'QuotaExceeded'],
    ['quota, for too long', undefined, [QUOTA], 301, 'QuotaExceeded/Policy'],
    ['refused, for now', undefined, [REFUSED], 5, 'SandboxRefused'],
    ['refused, for too long', undefined, [REFUSED], 20, 'SandboxRefused/Policy'],
    ['RuntimeClass gone', undefined, [CLASS], 20, 'SandboxRefused/Policy'],
    ['not yet looked at by the scheduler', pod().build(), [], 5, 'PodPending'],
    [
      'no room, for now',
      pod().condition('PodScheduled', 'False', 'Unschedulable', '0/1 nodes', -10).build(),
      [],
      5,
      'Unschedulable',
    ],
    [
      'no room, for too long',
      pod().condition('PodScheduled', 'False', 'Unschedulable', '0/1 nodes', -301).build(),
      [],
      5,
      'Unschedulable/Infrastructure',
    ],
    ['being created', pod().waiting('ContainerCreating').build(), [], 5, 'ContainerCreating'],
    [
      'pull fails, for now',
      pod()
        .scheduled(-280)
        .container({ waiting: { reason: 'ErrImagePull' } })
        .build(),
      [],
      5,
      'ImagePullFailing',
      59,
    ],
    [
      'pull fails, for too long',
      pod()
        .scheduled(-61)
        .container({ waiting: { reason: 'ImagePullBackOff', message: 'a/b:1: not found' } })
        .build(),
      [],
      5,
      'ImagePullFailed/User',
      61,
    ],
    [
      'registry unreachable',
      pod()
        .scheduled(-61)
        .container({ waiting: { reason: 'ErrImagePull', message: 'dial tcp: i/o timeout' } })
        .build(),
      [],
      5,
      'ImagePullFailed/Infrastructure',
      61,
    ],
    ['not an image name', pod().waiting('InvalidImageName', 'couldn’t parse').build(), [], 5, 'InvalidImage/User'],
    [
      'the node lacks the runtime',
      pod().scheduled(-30).build(),
      [warning('FailedCreatePodSandBox', 'no runtime for "runsc" is configured')],
      30,
      'SandboxRefused/Policy',
    ],
    [
      'a broken container, for too long',
      pod()
        .scheduled(-61)
        .container({ waiting: { reason: 'CreateContainerError' } })
        .build(),
      [],
      70,
      'InternalError/Infrastructure',
      61,
    ],
  ])('%s', (_, subject, warnings, age, expected, failing) => expect(start(subject, warnings, age, failing)).toBe(expected));

  it('counts from the first pull that failed, as we or the kubelet saw it, of that container', () => {
    const failing = pod().scheduled(-280).container({ waiting: { reason: 'ImagePullBackOff' } }).build();
    const failed = (seconds: number, fieldPath = 'spec.containers{sandbox}', message = 'Failed to pull image "a/b:1": not found') => [
      { ...warning('Failed', message), involvedObject: { fieldPath }, firstTimestamp: at(-seconds) },
    ];
    expect(start(failing)).toBe('ImagePullFailing');
    expect(start(failing, failed(59))).toBe('ImagePullFailing');
    expect(start(failing, failed(60))).toBe('ImagePullFailed/User');
    expect(start(failing, failed(60, 'spec.initContainers{launcher}'))).toBe('ImagePullFailing');
    expect(start(failing, failed(60, undefined, 'Error: failed to create the container'))).toBe('ImagePullFailing');
    expect(start(failing, failed(10), 5, 60)).toBe('ImagePullFailed/User');
    expect(failingStart(failing)).toBe(`${POD_UID}/sandbox/pull`);
    expect(failingStart(pod().waiting('CreateContainerError').build())).toBe(`${POD_UID}/sandbox/create`);
    expect(failingStart(pod().waiting('ContainerCreating').build())).toBeUndefined();
    expect(failingStart(undefined)).toBeUndefined();
  });

  it('names the RuntimeClass that is missing', () => {
    const result = judgeStart({
      job: job({ metadata: { creationTimestamp: at(-20) } }),
      pod: undefined,
      warnings: [CLASS],
      image: 'a',
      now: NOW,
      patience,
    });
    expect(result).toMatchObject({ verdict: { message: expect.stringContaining('"gvisor"') } });
  });
});
