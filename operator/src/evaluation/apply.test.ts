import { describe, expect, it } from 'vitest';
import { WaitingError } from '../controller/index.ts';
import { KubeError } from '../kube/index.ts';
import type { Action } from './actions.ts';
import { Applier } from './apply.ts';
import type { ApplyDependencies } from './apply.ts';
import { launched, settings } from './testing/builders.ts';

const WITHDRAW: Action = { type: 'withdraw', number: 1, jobName: 'hello-1', jobUid: 'job' };
const refuse = (code: number) => (): Promise<never> => Promise.reject(new KubeError({ code, reason: '', message: String(code) }));
const pod = { metadata: { name: 'hello-1-x', uid: 'pod', resourceVersion: '7' }, spec: {} };

/** Carries it out; what was deleted, as which version. */
async function withdraw({ pods = async () => ({ items: [pod] }), removePod = async () => {}, removeJob = async () => {}, there = true }: {
  pods?: () => Promise<unknown>;
  removePod?: () => Promise<void>;
  removeJob?: () => Promise<void>;
  there?: boolean;
}): Promise<string[]> {
  const deleted: string[] = [];
  const client = {
    list: pods,
    delete: async ({ plural }: { plural: string }, _: string, name: string, { uid, resourceVersion }: { uid: string; resourceVersion?: string }) => {
      await (plural === 'pods' ? removePod() : removeJob());
      deleted.push(`${plural} ${name} ${uid} ${resourceVersion ?? ''}`.trim());
    },
  };
  const snapshot = launched();
  const caches = { namespaces: { get: () => (there ? snapshot.cluster.namespace : undefined) } };
  const applier = new Applier({ client, caches, settings: settings(), epoch: () => 1 } as unknown as ApplyDependencies);
  try {
    await applier.apply(snapshot, [WITHDRAW], new AbortController().signal);
  } catch (error) {
    throw new Error(`deleted: ${deleted.join()}`, { cause: error });
  }
  return deleted;
}

const untouched = (cause: unknown) => expect.objectContaining({ message: 'deleted: ', cause });

describe('withdraw', () => {
  it('deletes the pod as it was seen, then the Job', async () => {
    expect(await withdraw({})).toEqual(['pods hello-1-x pod 7', 'jobs hello-1 job']);
  });

  it('leaves both alone when the pod has got its node, before the look or after it', async () => {
    const placed = { ...pod, spec: { nodeName: 'node-1' } };
    for (const options of [{ pods: async () => ({ items: [placed] }) }, { removePod: refuse(409) }])
      await expect(withdraw(options)).rejects.toEqual(untouched(expect.any(WaitingError)));
  });

  it('does not leave the pod to the garbage collector where it may not delete it', async () => {
    await expect(withdraw({ removePod: refuse(403) })).rejects.toEqual(untouched(expect.objectContaining({ code: 403 })));
  });

  it('is done where the namespace has gone, and our rights with it', async () => {
    const all = { pods: refuse(403), removePod: refuse(403), removeJob: refuse(403) };
    expect(await withdraw({ ...all, there: false })).toEqual([]);
    await expect(withdraw(all)).rejects.toEqual(untouched(expect.objectContaining({ code: 403 })));
  });
});
