import { expect, it } from 'vitest';
import { fingerprint, kernelsOf, slimNode } from './nodes.ts';

const node = (nodeInfo: object, heartbeat = '1') => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'n', uid: 'u', resourceVersion: heartbeat, labels: { a: 'b' } },
  status: { nodeInfo, conditions: [{ lastHeartbeatTime: heartbeat }] },
});

it('a heartbeat is no change; a boot, a kernel, a runtime is', () => {
  const info = {
    bootID: 'b',
    kernelVersion: '6.1',
    containerRuntimeVersion: 'containerd://2',
    kubeletVersion: 'v1.34',
  };
  const of = (changes: object, beat = '1') => fingerprint(slimNode(node({ ...info, ...changes }, beat)));
  expect(of({}, '2')).toBe(of({}));
  for (const changes of [
    { bootID: 'c' },
    { kernelVersion: '6.2' },
    { containerRuntimeVersion: 'x' },
    { kubeletVersion: 'v1.35' },
  ])
    expect(of(changes)).not.toBe(of({}));
  expect(kernelsOf([slimNode(node(info)), slimNode(node(info))])).toEqual(['6.1']);
});
