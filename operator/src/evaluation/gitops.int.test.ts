import { execFileSync, spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testServer } from '../../../test/integration/environment.ts';
import { kubeBinary } from '../../../test/integration/kubernetes.ts';
import { TestCluster } from './testing/cluster.ts';

// What GitOps tools do to an Evaluation: apply it again and again, by kubectl's two ways of applying, beside the operator.

const cluster = new TestCluster();
beforeAll(() => cluster.start());
afterAll(() => cluster.stop());

const manifest = (name: string): string =>
  JSON.stringify({
    apiVersion: 'crucible.dev/v1alpha1',
    kind: 'Evaluation',
    metadata: { name, namespace: cluster.namespace, labels: { team: 'a' } },
    spec: { runtime: cluster.runtime, code: 'print("hello")', files: [{ path: 'data.json', content: '{}' }], expect: { exitCode: 0 }, retry: { limit: 1 } },
  });
const kubectl = (args: string[], input: string): string =>
  execFileSync(kubeBinary(), ['kubectl', '--kubeconfig', testServer('CRUCIBLE_TEST_KUBECONFIG'), ...args, '-f', '-'], { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
const differs = (args: string[], input: string): number =>
  spawnSync(kubeBinary(), ['kubectl', '--kubeconfig', testServer('CRUCIBLE_TEST_KUBECONFIG'), 'diff', ...args, '-f', '-'], { input }).status ?? -1;
async function through(name: string): Promise<void> {
  const uid = (await cluster.evaluation(name))?.['metadata'].uid as string;
  const pod = await cluster.makePod(name);
  await cluster.running(pod);
  await cluster.phase(name, 'Running');
  await cluster.ended(pod, 0);
  await cluster.capture(uid, pod);
  await cluster.phase(name, 'Succeeded');
  await cluster.waitFor('the finalizer to go', async () => ((await cluster.evaluation(name))?.['metadata'].finalizers === undefined ? true : undefined));
}

describe.each([
  ['client-side', []],
  ['server-side', ['--server-side', '--field-manager=argocd-controller']],
])('%s apply', (way, args) => {
  const name = `applied-${way}`;

  it('again changes nothing, while it waits for its pod and when it is over', async () => {
    kubectl(['apply', ...args], manifest(name));
    // The operator's last word until there is a pod.
    await cluster.condition(name, 'Started', 'PodPending');
    for (const moment of ['starting', 'finished']) {
      if (moment === 'finished') await through(name);
      const before = await cluster.evaluation(name);
      const said = kubectl(['apply', ...args], manifest(name));
      // Server-side apply says the same whether it changed anything or not.
      expect(said).toMatch(way === 'client-side' ? /unchanged/ : /serverside-applied/);
      expect(differs(args, manifest(name))).toBe(0);
      expect(await cluster.evaluation(name), moment).toEqual(before);
    }
  });

  it('leaves the operator its fields, and the operator owns no other', async () => {
    const { managedFields } = (await cluster.evaluation(name))!['metadata'] as { managedFields: { manager: string; fieldsV1: object; subresource?: string }[] };
    const ours = managedFields.filter(({ manager }) => manager.startsWith('crucible-operator'));
    expect(ours.length).toBeGreaterThan(0);
    for (const { manager, fieldsV1, subresource } of ours) {
      const fields = Object.keys(fieldsV1);
      expect({ manager, subresource, fields }).toEqual(
        manager === 'crucible-operator-status'
          ? { manager, subresource: 'status', fields: ['f:status'] }
          : { manager, subresource: undefined, fields: ['f:metadata'] },
      );
    }
  });
});

it('others that apply labels and priority by force meet no resistance, and lose nothing of ours', async () => {
  const name = 'shared';
  kubectl(['apply', '--server-side', '--field-manager=flux'], manifest(name));
  await cluster.phase(name, 'Starting');
  const changed = JSON.stringify({ apiVersion: 'crucible.dev/v1alpha1', kind: 'Evaluation', metadata: { name, namespace: cluster.namespace, labels: { owner: 'b' } }, spec: { priority: 9 } });
  kubectl(['apply', '--server-side', '--force-conflicts', '--field-manager=other'], changed);
  const { metadata } = (await cluster.evaluation(name))!;
  expect(metadata.finalizers).toEqual(['crucible.dev/capture']);
  expect(metadata.labels).toEqual({ team: 'a', owner: 'b' });
  await cluster.waitFor('the change to be seen', async () => ((await cluster.status(name)).observedGeneration === metadata.generation ? true : undefined));
  await through(name);
  const end = (await cluster.evaluation(name))!;
  expect([end['metadata'].labels, end['spec'].priority]).toEqual([{ team: 'a', owner: 'b' }, 9]);
});
