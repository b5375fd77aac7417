import { describe, expect, it } from 'vitest';
import { WaitingError } from '../controller/index.ts';
import type { KubeObject } from '../kube/index.ts';
import { AttemptLauncher } from './apply-launch.ts';
import type { LaunchDependencies } from './apply-launch.ts';
import { runtime, settings, snapshot } from './testing/builders.ts';
import { find } from './testing/plans.ts';
import { scriptedApi } from './testing/scripted.ts';

const api = scriptedApi();

/** Makes the ConfigMap of an attempt where `there` is one of that name; what was asked of the API server. */
async function create(
  image: string,
  there: KubeObject | undefined,
  assumed = false,
  asked: string[] = [],
  epoch = 5,
): Promise<{ asked: string[]; left: KubeObject | undefined }> {
  let left = there;
  api.server.handler = (exchange) => {
    asked.push(exchange.method);
    if (exchange.method === 'GET') return exchange.json(left);
    if (exchange.method === 'DELETE') {
      expect(exchange.body.preconditions).toEqual({ uid: left?.metadata.uid });
      left = undefined;
      return exchange.json({ kind: 'Status' });
    }
    if (left !== undefined) return exchange.fail(409, 'AlreadyExists');
    const made = exchange.body as KubeObject;
    left = { ...made, metadata: { ...made.metadata, uid: image } };
    exchange.json({ metadata: left.metadata }, 201);
  };
  const record = { evaluation: undefined, attempts: [], ...(assumed && { assumed: true as const }) };
  const subject = snapshot({ record, cluster: { ...snapshot().cluster, runtimes: [runtime('python', { command: [image] })] } });
  const launcher = new AttemptLauncher({ client: api.client, settings: settings(), epoch: () => epoch } as unknown as LaunchDependencies);
  await launcher.createConfigMap(subject, find(subject, 'createConfigMap')!, {});
  return { asked, left };
}

describe('the ConfigMap of an attempt', () => {
  it('is kept when it was made before, and made anew when its runtime was another one then', async () => {
    const { asked, left: first } = await create('python3.13', undefined);
    expect(asked).toEqual(['POST']);
    expect(await create('python3.13', first)).toEqual({ asked: ['POST', 'GET'], left: first });
    const { asked: again, left: second } = await create('python3.14', first);
    expect(again).toEqual(['POST', 'GET', 'DELETE', 'POST']);
    expect((second as { data?: Record<string, string> }).data?.['launcher.json']).toContain('python3.14');
  });

  it('is left as it is while nobody has asked whether there is a Job that reads it', async () => {
    const { left: first } = await create('python3.13', undefined, true);
    expect(await create('python3.13', first, true)).toEqual({ asked: ['POST', 'GET'], left: first });
    const asked: string[] = [];
    await expect(create('python3.14', first, true, asked)).rejects.toThrow(WaitingError);
    expect(asked).toEqual(['POST', 'GET']);
  });

  it('is left as it is when a later leader has made it', async () => {
    const { left } = await create('python3.14', undefined, false, [], 6);
    const asked: string[] = [];
    await expect(create('python3.13', left, false, asked)).rejects.toThrow('a later leader has begun it');
    expect(asked).toEqual(['POST', 'GET']);
    expect((await create('python3.13', left, false, [], 7)).asked).toEqual(['POST', 'GET', 'DELETE', 'POST']);
  });

  it("is never another evaluation's", async () => {
    const { left } = await create('python3.13', undefined);
    const foreign = { ...left!, metadata: { ...left!.metadata, labels: { 'crucible.dev/evaluation-uid': 'other' } } };
    await expect(create('python3.14', foreign)).rejects.toThrow('belongs to another evaluation');
  });
});
