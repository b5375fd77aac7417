import { LABELS } from '@crucible/crds';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { Action } from './actions.ts';
import { Janitor } from './janitor.ts';
import type { JanitorDependencies } from './janitor.ts';
import type { Pod } from './objects.ts';
import type { Snapshot } from './snapshot.ts';
import { NOW, UID, pod, rawEvaluation, settings } from './testing/builders.ts';
import { scriptedApi } from './testing/scripted.ts';

const logger = pino({ level: 'silent' });
const api = scriptedApi();

const running = (uid: string, namespace: string): Pod =>
  pod().running().meta({ uid: `pod-${uid}`, name: uid, namespace, labels: { [LABELS.evaluationUid]: uid } }).build();

/** Rounds at these times over these pods; what was done about which. Neither watch nor record know anything else. */
async function sweep(pods: readonly Pod[], changes: object = {}, times: readonly number[] = [NOW]): Promise<string[]> {
  const done: string[] = [];
  const apply = async ({ raw }: Snapshot, actions: readonly Action[]): Promise<void> => {
    done.push(`${raw.metadata.uid}: ${actions.map(({ type }) => type).join()}`);
  };
  let at = NOW;
  const janitor = new Janitor({
    client: api.client,
    caches: { synced: true, lastSyncAgeSeconds: () => 0, jobs: { list: () => [] }, pods: { list: () => pods } },
    evaluations: { listUnfinished: async () => [], get: async () => undefined },
    registry: { tellNamespaces: async () => {}, settleSubmissions: async () => {} },
    applier: { apply },
    settings: settings(),
    logger,
    now: () => at,
    evaluation: () => undefined,
    minAgeSeconds: 0,
    ...changes,
  } as unknown as JanitorDependencies);
  for (at of times) await janitor.sweep(new AbortController().signal);
  return done;
}

describe('what neither watch nor record know', () => {
  it('is let go unless the API server knows it, which is asked once for a namespace, in pages that fit into memory', async () => {
    const asked: string[] = [];
    api.server.handler = (exchange) => {
      const { path, query } = exchange;
      const namespace = path.split('/').at(-2)!;
      asked.push(`${namespace} ${query['limit']} ${query['continue'] ?? ''}`.trim());
      const page = query['continue'] === undefined ? ['a', 'deleted'] : ['b'];
      const items = namespace === 'evals' ? page.map((uid) => rawEvaluation({}, { metadata: { uid, ...(uid === 'deleted' && { deletionTimestamp: 'x' }) } })) : [];
      exchange.json({ metadata: { ...(namespace === 'evals' && page.length > 1 && { continue: 'more' }) }, items });
    };
    const strays = ['a', 'b', 'c', 'deleted'].map((uid) => running(uid, 'evals'));
    expect(await sweep([...strays, running('d', 'other')])).toEqual(['c', 'deleted', 'd'].map((uid) => `${uid}: lowerDeadline`));
    expect(asked).toEqual(['evals 100', 'evals 100 more', 'other 100']);
  });
});

describe('what has finished and has no end in the record', () => {
  const later = [NOW, NOW + settings().patience.lostCapture * 1000 - 1, NOW + settings().patience.lostCapture * 1000];
  const finished = { phase: 'Cancelled', conditions: [{ type: 'Finished', status: 'True', reason: 'Cancelled', message: '', lastTransitionTime: 'x' }] };
  const verdict = { class: 'Cancelled', attributableTo: 'User', message: 'Cancelled before the code started.' };
  const rounds = (status: object, finishedAt: Date | null = null): Promise<string[]> => {
    const unfinished = ({ after }: { after?: string }): object[] => (after === undefined ? [{ uid: UID, acceptedAt: new Date(0) }] : []);
    const changes = {
      evaluations: { listUnfinished: async (page: object) => unfinished(page), get: async () => undefined },
      evaluation: () => rawEvaluation({}, { status: status as never }),
      attempts: { withEvaluation: async () => ({ evaluation: { finishedAt }, attempts: [] }) },
    };
    return sweep([], changes, later);
  };

  it('gets it from its status, once a capture has had its time', async () => {
    expect(await rounds({ ...finished, verdict })).toEqual([`${UID}: recordEnd`]);
    expect(await rounds({ ...finished, verdict }, new Date(0))).toEqual([]);
  });

  it('gets a status of its own where nobody has judged it: somebody else wrote Finished', async () => {
    expect(await rounds(finished)).toEqual([`${UID}: clearStatus`]);
  });
});
