import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { AccessQuestion, Cluster } from '../cluster.ts';
import type { Caller } from './authenticator.ts';
import { Authorizer } from './authorizer.ts';

const caller = (key: string): Caller => ({ token: 't', identity: { username: key }, who: key, key, expiresAt: undefined }) as unknown as Caller;
const known = { names: () => [], uidsOf: async () => [] };

/** With a cluster that lets those questions through which `may` does, and remembers what it was asked. */
function asking(may: (question: AccessQuestion) => boolean, now = () => 0) {
  const asked: AccessQuestion[] = [];
  const cluster = {
    mayThey: async (_: unknown, question: AccessQuestion) => {
      asked.push(question);
      return may(question);
    },
    namespace: async (_: string, name: string) => ({ metadata: { name, uid: `uid of ${name}` } }),
  };
  return { asked, authorizer: new Authorizer(cluster as unknown as Cluster, known, now) };
}

const question = fc.record({
  verb: fc.constantFrom('get', 'list'), resource: fc.constantFrom('evaluations', 'evaluationsuites'),
  // Kubernetes has no names with a slash; for a namespace anybody may ask as he likes.
  name: fc.option(fc.constantFrom('a', 'a b'), { nil: undefined }), namespace: fc.constantFrom('', 'a', 'b a', 'a/b', '/a', ' a'),
});

it('an answer is kept for its own question and nobody else’s', async () => {
  const asOne = (one: unknown): string => JSON.stringify(one);
  await fc.assert(fc.asyncProperty(fc.uniqueArray(fc.tuple(fc.constantFrom('one', 'two'), question), { maxLength: 30, selector: ([who, { name, ...rest }]) => asOne([who, name ?? '', rest.verb, rest.resource, rest.namespace]) }), async (questions) => {
    const { asked, authorizer } = asking(() => true);
    for (const [who, one] of questions) await authorizer.may(caller(who), one as AccessQuestion);
    expect(asked).toEqual(questions.map(([, one]) => one));
  }));
});

it('what is known is said at once, for five seconds, and another namespace’s UID is no way in', async () => {
  let now = 0;
  const { asked, authorizer } = asking(({ namespace }) => namespace === 'evals', () => now);
  const owned = { namespace: 'evals', namespaceUid: 'uid of evals', name: 'run' };
  expect(await authorizer.mayGet(caller('one'), owned)).toBe(true);
  const before = asked.length;
  expect(authorizer.mayGet(caller('one'), owned)).toBe(true);
  expect(authorizer.mayGet(caller('one'), { ...owned, namespaceUid: 'of one that is gone' })).toBe(false);
  expect(asked).toHaveLength(before);
  expect(await authorizer.mayGet(caller('one'), { ...owned, namespace: 'other' })).toBe(false);
  now = 5_000;
  expect(authorizer.mayGet(caller('one'), owned)).toBeInstanceOf(Promise);
});
