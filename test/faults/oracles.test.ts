import { describe, expect, it } from 'vitest';
import { converged, endState, gaplessEvents, noOrphans, oneAcceptedAttempt, quiet, sameEnd, standing, verdictAndLedger } from './oracles.ts';
import { FrameDecoder } from '../../operator/src/recorder/frames.ts';
import type { Frame } from '../../operator/src/recorder/frames.ts';
import { expectedOutput, scenario, sha256 } from './scenario.ts';
import type { RecordedRun, StoredStream, WorldState } from './state.ts';

// An oracle that cannot fail proves nothing: every sentence that it can say is provoked here.

const PART = scenario({ seed: 1, bytes: 500 })[0]!;
const UID = '11111111-2222-4333-8444-555555555555';

function stream(name: 'stdout' | 'stderr', changes: Partial<StoredStream> = {}): StoredStream {
  const { bytes, sha256: sum } = expectedOutput(PART)[name];
  const found = { bytes, sha256: sum, joins: true };
  return { attempt: 1, stream: name, bytes, sha256: sum, complete: true, gaps: [], truncated: false, found, ...changes };
}

function run(changes: Partial<RecordedRun> = {}): RecordedRun {
  const verdict = { class: 'Succeeded', message: 'It did.' };
  const file = PART.files[0]!;
  const types = ['evaluation.accepted', 'attempt.created', 'capture.finished', 'attempt.finalized', 'attempt.accepted', 'evaluation.finished'];
  return {
    uid: UID,
    name: PART.name,
    phase: 'Succeeded',
    verdict,
    finishedAt: '2026-01-01',
    acceptedAttempt: 1,
    eventSeq: types.length,
    attempts: [
      { number: 1, state: 'finalized', jobName: 'j', podUid: 'p', startedAt: '2026-01-01', exitCode: 0, signal: null, verdict },
    ],
    captures: [{ attempt: 1, state: 'captured', complete: true, reason: null, missing: '{}', podUid: 'p' }],
    streams: [stream('stdout'), stream('stderr')],
    artifacts: [
      { attempt: 1, path: file.path, size: file.data.length, sha256: sha256(file.data), complete: true, found: sha256(file.data) },
    ],
    events: types.map((type, index) => ({ seq: index + 1, type, data: {} })),
    ...changes,
  };
}

const labels = { 'crucible.dev/evaluation-uid': UID };
const finished = { conditions: [{ type: 'Finished', status: 'True', reason: 'Succeeded', message: 'It did.' }], phase: 'Succeeded' };

function evaluation(metadata: object = {}, status: object = { ...finished, verdict: { class: 'Succeeded' } }) {
  return { metadata: { name: PART.name, uid: UID, ...metadata }, status };
}

function world(changes: Partial<WorldState> = {}): WorldState {
  return { runs: [run()], evaluations: [evaluation()], jobs: [], pods: [], configMaps: [], ...changes };
}

const withRun = (changes: Partial<RecordedRun>): WorldState => world({ runs: [run(changes)] });
const object = (metadata: object) => ({ metadata: { name: 'x', labels, ...metadata } });

it('says nothing about a world in order', () => {
  expect(standing(world(), [PART])).toEqual([]);
  const nothing = { bytes: 0, sha256: sha256(Buffer.alloc(0)), joins: true };
  const empty = (name: 'stdout' | 'stderr') => stream(name, { bytes: 0, sha256: nothing.sha256, found: nothing });
  const neverRan = { runs: [run({ streams: [empty('stdout'), empty('stderr')], artifacts: [] })], ran: () => false };
  expect(standing(world({ started: [{ podUid: 'p', evaluationUid: UID, attempt: 1 }] }), [PART])).toEqual([]);
  expect(standing(world(neverRan), [PART])).toEqual([]);
  expect(standing(world({ ...neverRan, ran: () => true }), [PART])).not.toEqual([]);
  const owned = object({ ownerReferences: [{ uid: UID }] });
  expect(noOrphans(world({ jobs: [owned], pods: [object({})], configMaps: [owned] }))).toEqual([]);
});

describe('(a) one accepted attempt', () => {
  const events = run().events;
  const accepted = { seq: 7, type: 'attempt.accepted', data: { number: 2 } };
  it.each<[string, Partial<RecordedRun>, string]>([
    ['two accepted', { events: [...events, accepted], eventSeq: 7 }, '2 attempts were accepted'],
    ['an event without its row', { acceptedAttempt: null }, 'disagree'],
    ['an attempt that is not final', { attempts: [{ ...run().attempts[0]!, state: 'running' }] }, 'is not final'],
    ["another pod's output", { captures: [{ ...run().captures[0]!, podUid: 'q' }] }, 'output of another pod'],
  ])('sees %s', (_, changes, words) => expect(oneAcceptedAttempt(withRun(changes)).join()).toContain(words));
});

describe('(b) verdict and ledger', () => {
  const capture = run().captures[0]!;
  const other = { bytes: 1, sha256: sha256(Buffer.from('x')), joins: true };
  it.each<[string, Partial<RecordedRun>, string]>([
    ['no verdict', { verdict: null }, 'without a verdict'],
    ['an attempt left open', { attempts: [{ ...run().attempts[0]!, state: 'running' }] }, 'the attempt is running'],
    ['no capture', { captures: [] }, 'it was started, and nothing says what became of its output'],
    ['an open capture', { captures: [{ ...capture, state: 'following' }] }, 'its capture is following'],
    ['incomplete without a reason', { captures: [{ ...capture, complete: false }] }, 'nothing says why'],
    ['a stream without a ledger', { streams: [stream('stdout')] }, '1 streams have a ledger'],
    ['a changed byte', { streams: [stream('stdout', { found: other }), stream('stderr')] }, 'the ledger of stdout says'],
    [
      'chunks that do not join',
      { streams: [stream('stdout', { found: { ...stream('stdout').found, joins: false } }), stream('stderr')] },
      'the ledger of stdout says',
    ],
    [
      'bytes the program never wrote, in a ledger that agrees with them',
      { streams: [stream('stdout', { ...other, found: other }), stream('stderr')] },
      'is called complete',
    ],
    ['a lost artifact', { artifacts: [{ ...run().artifacts[0]!, found: null }] }, 'is not stored as it was'],
  ])('sees %s', (_, changes, words) => expect(verdictAndLedger(withRun(changes), [PART]).join()).toContain(words));
  it('sees a container that ran and is not heard of, in a record that does not know that it started', () => {
    const attempts = [{ ...run().attempts[0]!, startedAt: null, podUid: null, exitCode: null }];
    const lost = run({ attempts, captures: [], streams: [], artifacts: [] });
    const started = [{ podUid: 'p', evaluationUid: UID, attempt: 1 }];
    const captured = (status: string) => [
      evaluation({}, { ...finished, verdict: { class: 'X' }, conditions: [...finished.conditions, { type: 'Captured', status }] }),
    ];
    const state = world({ runs: [lost], evaluations: captured('False'), started });
    expect(verdictAndLedger(state, [PART])).toEqual([]);
    for (const worse of [{ evaluations: captured('True') }, { runs: [{ ...lost, attempts: run().attempts.map((one) => ({ ...one, startedAt: null })) }] }])
      expect(verdictAndLedger({ ...state, ...worse }, [PART]).join()).toContain('a container ran, and nothing says');
  });
  describe('of what is incomplete', () => {
    const gone = { ...capture, complete: false, reason: 'PodGone' };
    const frames = [...new FrameDecoder().push(Buffer.concat(PART.scripts[0]!.lines))];
    /** The streams as they are when only these frames were stored. */
    const stored = (kept: (frame: Frame, index: number) => boolean): Partial<RecordedRun> => ({
      streams: (['stdout', 'stderr'] as const).map((name) => {
        const found = frames.filter(({ kind }) => kind === name).filter(kept);
        const data = Buffer.concat(found.flatMap(({ text, newline }) => [text, Buffer.from(newline ? '\n' : '')]));
        const ledger = { bytes: data.length, sha256: sha256(data) };
        return stream(name, { ...ledger, complete: false, found: { ...ledger, joins: true } });
      }),
    });
    const breaches = (missing: string, changes: Partial<RecordedRun>): string =>
      verdictAndLedger(withRun({ captures: [{ ...gone, missing }], ...changes }), [PART]).join();

    it('believes a beginning, and a gap that is named', () => {
      expect(breaches('{}', stored((_, index) => index < 2))).toBe('');
      expect(breaches('{[3,5)}', stored(({ seq }) => seq < 3 || seq > 4))).toBe('');
    });
    it('sees bytes the program never wrote, a gap that is not named, and one that is named and not there', () => {
      const words = 'is not what the program wrote but for';
      expect(breaches('{}', { streams: [stream('stdout', { ...other, found: other }), stream('stderr')] })).toContain(words);
      expect(breaches('{}', stored(({ seq }) => seq < 3 || seq > 4))).toContain(words);
      expect(breaches('{[3,5)}', stored(() => true))).toContain(words);
    });
  });
  it('sees output of a container that never ran', () => {
    expect(verdictAndLedger(world({ ran: () => false }), [PART]).join()).toContain('it has output and never ran');
  });
  it('sees a status without a verdict', () => {
    const state = world({ evaluations: [evaluation({}, finished)] });
    expect(verdictAndLedger(state, [PART]).join()).toContain('without a verdict in its status');
  });
});

describe('(c) orphans', () => {
  const finalizers = ['crucible.dev/capture'];
  const deletionTimestamp = '2026-01-01T00:00:00Z';
  it.each<[string, Partial<WorldState>, string]>([
    ['a finalizer of a finished evaluation', { evaluations: [evaluation({ finalizers })] }, 'keeps its finalizer'],
    ['an evaluation that does not go', { evaluations: [evaluation({ deletionTimestamp })] }, 'does not go'],
    ['a job without an owner', { jobs: [object({})] }, 'job x belongs to nobody'],
    ['a job of a dead owner', { evaluations: [], jobs: [object({ ownerReferences: [{ uid: UID }] })] }, 'job x belongs to nobody'],
    [
      'a job that does not go',
      { jobs: [object({ ownerReferences: [{ uid: UID }], deletionTimestamp })] },
      'job x is deleted and does not go',
    ],
    ['a finalizer of a pod', { pods: [object({ finalizers })] }, 'pod x keeps its finalizer'],
    ['a pod without an owner', { evaluations: [], pods: [object({})] }, 'pod x belongs to nobody'],
    ['a pod that does not go', { pods: [object({ deletionTimestamp })] }, 'pod x is deleted'],
    ['code without an owner', { evaluations: [], configMaps: [object({})] }, 'config map x belongs to nobody'],
  ])('sees %s', (_, changes, words) => expect(noOrphans(world(changes)).join()).toContain(words));
});

describe('(d) convergence and quiet', () => {
  it.each<[string, Partial<WorldState>, string]>([
    ['an open row', { runs: [run({ finishedAt: null })] }, 'not finished in the record'],
    ['an open status', { evaluations: [evaluation({}, { phase: 'Running' })] }, 'is Running'],
    ['a run that was forgotten', { runs: [] }, 'is not in the record'],
  ])('sees %s', (_, changes, words) => expect(converged(world(changes), [PART]).join()).toContain(words));
  it('sees calls and commits', () => {
    expect(quiet({ calls: ['PATCH /x'], commits: ['UPDATE crucible.x'] })).toHaveLength(2);
    expect(quiet({ calls: [], commits: [] })).toEqual([]);
  });
});

describe('(e) events', () => {
  const events = run().events;
  it.each<[string, Partial<RecordedRun>, string]>([
    ['a gap', { events: events.filter(({ seq }) => seq !== 3) }, 'events are numbered 1,2,4,5,6'],
    ['a lost last one', { eventSeq: 7 }, 'the row says 7'],
    ['an end told twice', { events: [...events, { ...events[5]!, seq: 7 }], eventSeq: 7 }, 'evaluation.finished 2 times'],
    ['an attempt told twice', { events: [...events, { ...events[1]!, seq: 7 }], eventSeq: 7 }, 'attempt.created 2 times'],
  ])('sees %s', (_, changes, words) => expect(gaplessEvents(withRun(changes)).join()).toContain(words));
});

describe('(f) the same end', () => {
  const reference = endState(world());
  it('is blind to names, uids and times alone', () => {
    const attempts = [{ ...run().attempts[0]!, jobName: 'other', podUid: 'p2', startedAt: '2027-01-01' }];
    const captures = [{ ...run().captures[0]!, podUid: 'p2' }];
    expect(sameEnd(withRun({ attempts, captures, finishedAt: '2027-01-01' }), reference)).toEqual([]);
  });
  it.each<[string, WorldState]>([
    ['another verdict', withRun({ verdict: { class: 'TimedOut', message: 'It did not.' } })],
    ['a second attempt', withRun({ attempts: [...run().attempts, { ...run().attempts[0]!, number: 2 }] })],
    ['incomplete output', withRun({ captures: [{ ...run().captures[0]!, complete: false, reason: 'PodGone' }] })],
    ['a lost artifact', withRun({ artifacts: [] })],
    ['another status', world({ evaluations: [evaluation({}, { ...finished, phase: 'Failed', verdict: { class: 'Succeeded' } })] })],
    ['a missing resource', world({ evaluations: [] })],
    ['a missing run', world({ runs: [] })],
  ])('sees %s', (_, state) => expect(sameEnd(state, reference).join()).toContain('ended otherwise'));
});
