import { expect, test } from 'vitest';
import { redisReason } from '../redis/connection.ts';
import { Bell } from './bell.ts';
import { parseCloudEvent, toCloudEvent } from './cloud-event.ts';
import { positionOf, streamId } from './stream.ts';

const EVENT = {
  evaluationUid: '5f6f3f0c-9f0e-4f39-8f0c-0c5f4b8f1a11',
  seq: 2,
  type: 'evaluation.phase',
  data: { from: 'Queued', to: 'Starting' },
  at: new Date('2026-01-02T03:04:05.678Z'),
  position: 9_007_199_254_740_991,
  namespace: 'evals',
  namespaceUid: '6f6f3f0c-9f0e-4f39-8f0c-0c5f4b8f1a12',
  name: 'hello',
};

test('a CloudEvent: required attributes, extension names as the specification wants them, no number above 32 bits', () => {
  const event = toCloudEvent(EVENT);
  expect(event).toEqual({
    specversion: '1.0',
    id: '5f6f3f0c-9f0e-4f39-8f0c-0c5f4b8f1a11/2',
    source: '/namespaces/evals/evaluations/hello',
    type: 'dev.crucible.evaluation.phase',
    subject: '5f6f3f0c-9f0e-4f39-8f0c-0c5f4b8f1a11',
    time: '2026-01-02T03:04:05.678Z',
    datacontenttype: 'application/json',
    position: '9007199254740991',
    sequence: '2',
    namespace: 'evals',
    namespaceuid: '6f6f3f0c-9f0e-4f39-8f0c-0c5f4b8f1a12',
    name: 'hello',
    data: { from: 'Queued', to: 'Starting' },
  });
  for (const name of Object.keys(event)) expect(name).toMatch(/^[a-z0-9]{1,20}$/);
  expect(parseCloudEvent(JSON.stringify(event))).toEqual(event);
});

test.each(['', 'null', '[]', '{}', '{"specversion":"1.0","id":1}', '{"specversion":"0.3","id":"a","type":"b","subject":"c","position":"1","sequence":"1"}'])(
  'no event: %s',
  (text) => expect(() => parseCloudEvent(text)).toThrow(),
);

test('a stream id is a position', () => {
  expect(streamId(42)).toBe('42-0');
  expect(positionOf('42-0')).toBe(42);
});

test('a bell keeps what rang before anybody waited, once', async () => {
  const bell = new Bell();
  const { signal } = new AbortController();
  bell.ring();
  bell.ring();
  expect(await bell.wait(60_000, signal)).toBe(true);
  expect(await bell.wait(1, signal)).toBe(false);
  const waiting = bell.wait(60_000, signal);
  bell.ring();
  expect(await waiting).toBe(true);
  const stop = new AbortController();
  const stopped = bell.wait(60_000, stop.signal);
  stop.abort();
  expect(await stopped).toBe(false);
  expect(await bell.wait(60_000, stop.signal)).toBe(false);
});

test.each([
  ['OOM command not allowed when used memory > maxmemory', 'OOM'],
  ['WRONGPASS invalid username-password pair', 'WRONGPASS'],
  ['Command timed out', 'timeout'],
  ["Stream isn't writeable and enableOfflineQueue options is false", 'unreachable'],
  ['connect ECONNREFUSED 10.1.2.3:6379', 'unreachable'],
  ['ERR something with redis://:secret@host', 'refused'],
  // A command that was on its way when the connection went.
  ['Reached the max retries per request limit (which is 0). Refer to "maxRetriesPerRequest" option for details.', 'unreachable'],
])('the kind of failure, never an address: %s', (message, reason) => expect(redisReason(new Error(message))).toBe(reason));
