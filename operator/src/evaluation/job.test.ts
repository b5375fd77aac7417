import { describe, expect, it } from 'vitest';
import { admit } from './admission.ts';
import type { Run } from './admission.ts';
import { buildConfigMap, buildJob, launcherSettings, runningDeadlineSeconds } from './job.ts';
import { UID, at, evaluation, settings, snapshot } from './testing/builders.ts';

const { sandbox, patience } = settings();
const identity = { namespace: 'evals', name: 'hello', uid: UID, attempt: 1 };

function resolve(spec: Parameters<typeof evaluation>[0] = {}): Run {
  const admission = admit(evaluation(spec), snapshot().cluster, settings());
  if (!admission.admitted) throw new Error(admission.message);
  return admission.run;
}

function job(spec?: Parameters<typeof evaluation>[0]): any {
  return buildJob({ run: resolve(spec), identity, sandboxUid: 123_456, settings: sandbox, patience });
}

describe('buildJob', () => {
  it('meets the rules of the sandbox that a spec can show', () => {
    const { spec } = job().spec.template;
    expect(spec).toMatchObject({
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      restartPolicy: 'Never',
      dnsPolicy: 'None',
      serviceAccountName: 'crucible-sandbox',
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 123_456,
        runAsGroup: 123_456,
        supplementalGroupsPolicy: 'Strict',
        seccompProfile: { type: 'RuntimeDefault' },
      },
    });
    for (const forbidden of [
      'hostUsers',
      'hostNetwork',
      'hostPID',
      'hostIPC',
      'shareProcessNamespace',
      'nodeName',
      'runtimeClassName',
    ])
      expect(spec).not.toHaveProperty(forbidden);
    for (const container of [
      ...spec.containers,
      ...job({ runtime: undefined, image: 'a:1', command: ['x'] }).spec.template.spec.initContainers,
    ]) {
      expect(container.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        privileged: false,
        capabilities: { drop: ['ALL'] },
      });
      expect(container).not.toHaveProperty('env');
      expect(Object.keys(container.resources.limits).sort()).toEqual(['cpu', 'ephemeral-storage', 'memory']);
    }
    for (const volume of spec.volumes) expect(volume.configMap ?? volume.emptyDir.medium).toBeTruthy();
    for (const volume of spec.volumes.filter((candidate: any) => candidate.emptyDir))
      expect(volume.emptyDir.sizeLimit).toMatch(/Mi$/);
  });

  it('has nothing at Job level that deletes a pod, and no owner before capture', () => {
    const { spec, metadata } = job();
    expect(spec).not.toHaveProperty('activeDeadlineSeconds');
    expect(spec).not.toHaveProperty('ttlSecondsAfterFinished');
    expect(spec.backoffLimit).toBe(0);
    expect(metadata).not.toHaveProperty('ownerReferences');
    expect(spec.template.metadata.finalizers).toEqual(['crucible.dev/capture']);
    expect(spec.template.metadata.labels).toMatchObject({
      'crucible.dev/sandbox': 'true',
      'crucible.dev/evaluation-uid': UID,
      'crucible.dev/attempt': '1',
    });
  });

  it('sizes memory for the code and every tmpfs', () => {
    // 256 code + 64 disk + 16 tmp + 16 shm + 32 overhead
    expect(job().spec.template.spec.containers[0].resources.limits.memory).toBe('384Mi');
    // + 16 for the launcher's volume
    expect(
      job({ runtime: undefined, image: 'a:1', command: ['x'] }).spec.template.spec.containers[0].resources.limits
        .memory,
    ).toBe('400Mi');
  });

  it("gives the deadline room for start-up and run, and the launcher's own timeout a head start", () => {
    expect(job({ timeoutSeconds: 60 }).spec.template.spec.activeDeadlineSeconds).toBe(300 + 60 + 1);
    expect(runningDeadlineSeconds(at(-20), at(-10), 60)).toBe(10 + 60 + 1);
    // Gone by timeout + grace + 5 s, two of which are the kubelet's own rounding and delay.
    const { activeDeadlineSeconds, terminationGracePeriodSeconds } = job({ timeoutSeconds: 60 }).spec.template.spec;
    expect(activeDeadlineSeconds - 300 + terminationGracePeriodSeconds + 2).toBeLessThanOrEqual(60 + 5 + 5);
  });

  it('installs the launcher only where the image does not carry it', () => {
    expect(job().spec.template.spec).not.toHaveProperty('initContainers');
    const { spec } = job({ runtime: undefined, image: 'a:1', command: ['x'] }).spec.template;
    expect(spec.initContainers[0]).toMatchObject({
      name: 'launcher',
      image: 'crucible/launcher:test',
      args: ['install', '/crucible/bin/launcher'],
    });
    expect(spec.containers[0].volumeMounts).toContainEqual({
      name: 'launcher',
      mountPath: '/crucible/bin',
      readOnly: true,
    });
  });

  it('carries RuntimeClass and Kueue queue when asked', () => {
    expect(job({ isolation: { runtimeClassName: 'gvisor' } }).spec.template.spec.runtimeClassName).toBe('gvisor');
    expect(job({ queue: 'team-a' }).metadata.labels['kueue.x-k8s.io/queue-name']).toBe('team-a');
  });
});

describe('buildConfigMap', () => {
  it('holds code, files, stdin and settings, and the pod mounts them apart', () => {
    const spec = { files: [{ path: 'data/x.json', content: '{}' }], stdin: 'in' };
    const configMap: any = buildConfigMap(resolve(spec), identity, sandbox);
    expect(configMap).toMatchObject({ immutable: true, data: { f0: 'print("hello")', f1: '{}', stdin: 'in' } });
    const volumes = job(spec).spec.template.spec.volumes;
    expect(volumes.find((volume: any) => volume.name === 'code').configMap.items).toEqual([
      { key: 'f0', path: 'main.py' },
      { key: 'f1', path: 'data/x.json' },
      { key: 'stdin', path: '.stdin' },
    ]);
    expect(volumes.find((volume: any) => volume.name === 'config').configMap.items).toEqual([
      { key: 'launcher.json', path: 'launcher.json' },
    ]);
  });

  it('has no code volume without code, files and stdin', () => {
    const { spec } = job({ runtime: undefined, code: undefined, image: 'a:1', command: ['true'] }).spec.template;
    expect(spec.volumes.map((volume: any) => volume.name)).not.toContain('code');
    expect(spec.containers[0].volumeMounts.map((mount: any) => mount.name)).not.toContain('code');
  });
});

describe('launcherSettings', () => {
  it('has exactly the fields that the launcher knows', () => {
    const known = [
      'version',
      'command',
      'cwd',
      'env',
      'stdinPath',
      'timeoutSeconds',
      'graceSeconds',
      'maxStreamBytes',
      'maxEmittedBytes',
      'artifacts',
      'limits',
    ];
    const full = launcherSettings(resolve({ stdin: '', artifacts: { paths: ['out/**'] } }), sandbox);
    expect(Object.keys(full).sort()).toEqual([...known].sort());
    expect(full).toMatchObject({
      version: 1,
      stdinPath: '/crucible/code/.stdin',
      artifacts: { paths: ['out/**'], maxBytes: 4 * 2 ** 20, maxFiles: 1000 },
      limits: { fileSizeBytes: 64 * 2 ** 20, processes: 128, openFiles: 1024 },
    });
    expect(launcherSettings(resolve(), sandbox)).not.toHaveProperty('stdinPath');
  });
});
