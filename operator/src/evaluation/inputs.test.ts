import { createHash } from 'node:crypto';
import { LIMITS } from '@crucible/crds';
import { describe, expect, it } from 'vitest';
import { admit } from './admission.ts';
import type { Run } from './admission.ts';
import { resolveInputs } from './inputs.ts';
import type { InputMap } from './inputs.ts';
import { buildConfigMap } from './job.ts';
import { plan } from './plan.ts';
import { NOW, UID, attempt, record, settings, snapshot } from './testing/builders.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const file = (path: string, name: string, key: string) => ({ path, configMapRef: { name, key } });
const configMap = (data: InputMap['data'], changes: object = {}): InputMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'big', namespace: 'evals', labels: { 'crucible.dev/input': 'true' } },
  ...(data && { data }),
  ...changes,
});
const subject = (changes: object = {}) =>
  snapshot({ spec: { files: [{ path: 'a.txt', content: 'a' }, file('data/b', 'big', 'b')] }, ...changes });

function run(changes = {}): Run {
  const { evaluation, cluster } = subject(changes);
  const admission = admit(evaluation!, cluster, settings());
  if (!admission.admitted) throw new Error(admission.message);
  return admission.run;
}

describe('files from ConfigMaps', () => {
  it('are copied, text or not, beside the others, and their hashes told', () => {
    const found = new Map([['big', configMap(undefined, { binaryData: { b: Buffer.from([0, 255]).toString('base64') } })]]);
    const given = resolveInputs(run(), found, undefined);
    if (!given.admitted) throw new Error(given.message);
    const hash = createHash('sha256').update(Buffer.from([0, 255])).digest('hex');
    expect(given.inputs).toEqual([{ path: 'data/b', configMap: 'big', key: 'b', bytes: 2, sha256: hash }]);
    const identity = { namespace: 'evals', name: 'hello', uid: UID, attempt: 1 };
    expect(buildConfigMap(given.run, identity, settings().sandbox)).toMatchObject({
      immutable: true,
      data: { f0: 'print("hello")', f1: 'a' },
      binaryData: { f2: 'AP8=' },
    });
    expect(() => buildConfigMap(run(), identity, settings().sandbox)).toThrow('has not been read');
  });

  it.each<[string, InputMap | undefined, string]>([
    ['ConfigMapNotFound', undefined, 'Create it'],
    ['ConfigMapNotShared', configMap({ b: 'x' }, { metadata: { name: 'big' } }), 'kubectl label configmap big crucible.dev/input=true'],
    ['ConfigMapKeyNotFound', configMap({ a: 'x' }), 'it has: a'],
    ['ConfigMapTooLarge', configMap({ b: 'x'.repeat(LIMITS.referencedBytes + 1) }), 'Make them smaller'],
  ])('%s is refused with what to do, and looked at again', (reason, found, remedy) => {
    const decision = plan(subject({ inputs: new Map([['big', found]]) }), NOW, settings());
    expect(decision).toMatchObject({ actions: [], turn: 'release', requeueAfterSeconds: 10, view: { accepted: { status: 'False', reason } } });
    expect(decision.view?.accepted.message).toContain(remedy);
  });

  it('are recorded with the attempt, and stay the same in the next one', () => {
    const inputs = (text: string) => ({ inputs: new Map([['big', configMap({ b: text })]]) });
    const first = plan(subject(inputs('one')), NOW, settings()).actions.find(({ type }) => type === 'recordAttempt');
    const recorded = [{ path: 'data/b', configMap: 'big', key: 'b', bytes: 3, sha256: sha256('one') }];
    expect(first).toMatchObject({ inputs: recorded });
    const ended = attempt({ state: 'finalized', finalizedAt: new Date(NOW - 3600_000), inputs: recorded });
    const again = { record: { evaluation: record(), attempts: [ended] } };
    expect(plan(subject({ ...inputs('one'), ...again }), NOW, settings()).actions.map(({ type }) => type)).toContain('launch');
    const changed = plan(subject({ ...inputs('two'), ...again }), NOW, settings());
    expect(changed).toMatchObject({ actions: [], view: { accepted: { status: 'False', reason: 'ConfigMapChanged' } } });
  });
});
