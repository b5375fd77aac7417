import type { KubeObject } from '@crucible/operator/kube';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { buildApp } from './app.ts';
import type { AccessQuestion } from './cluster.ts';
import { Streams } from './live/sse.ts';
import { pauses } from './plans.ts';
import type { Services } from './services.ts';

// What is said to those who ask wrongly, or too late: no servers, only the routes and what they ask.

const UID = '0b9d6c1e-7a53-4f0e-9c63-5f5d1c6f1a01';
const caller = { token: 't', identity: { username: 'a', uid: '1', groups: [], extra: {} }, who: 'a', key: 'a', expiresAt: undefined };

interface World {
  /** Of crucible.evaluations and crucible.submissions, whatever is asked. */
  rows?: object[];
  hidden?: boolean;
  may?: (question: AccessQuestion) => boolean;
}

async function world({ rows = [], hidden = false, may = () => true }: World = {}) {
  const done: string[] = [];
  const services = {
    notReady: () => undefined, streams: new Streams({ total: 1, each: 1 }), now: Date.now,
    authenticator: { known: () => caller },
    rateLimiter: { take: () => undefined },
    snapshots: { owner: () => ({ uid: UID, namespace: 'evals', namespaceUid: UID, name: 'x' }) },
    authorizer: { mayGet: () => true, uidOf: async () => (hidden ? 'hidden' : { uid: UID }), may: (_: unknown, question: AccessQuestion) => may(question) },
    database: { query: async () => ({ rows }) },
    cluster: { cancelEvaluation: async () => void done.push('cancelled') as unknown as KubeObject },
  } as unknown as Services;
  const app = await buildApp(services, { https: undefined, logger: pino({ level: 'silent' }), metrics: undefined, trustedProxies: [], checkAnswers: true });
  const headers = { authorization: 'Bearer t' };
  const call = async (method: 'GET' | 'POST', url: string, payload?: string, more = {}) => {
    const answer = await app.inject({ method, url, headers: { ...headers, ...more }, ...(payload !== undefined && { payload }) });
    return { status: answer.statusCode, ...(answer.json() as { detail: string; errors: object[] }) };
  };
  return { call, done };
}

test.each([
  '/api/evaluations?namespce=x', '/api/evaluations?phase=Nope', '/api/suites?x=1', '/api/queue?x=1', '/api/storage/overview?x=1', '/api/storage/database?x=1',
  '/api/storage/file?x=1', '/api/storage/redis?x=1', '/api/drills?x=1', '/api/events?x=1', `/api/evaluations/${UID}/events?x=1`, `/api/evaluations/${UID}/artifacts?x=1`,
  `/api/evaluations/${UID}/artifacts/a?x=1`, `/api/evaluations/${UID}/output/stdout?x=1`, `/api/evaluations/${UID}/output/stdout/stream?x=1`,
])('a parameter that nobody knows is refused, and not taken for none: %s', async (url) => {
  const { status, detail } = await (await world()).call('GET', url);
  expect([status, detail]).toEqual([400, expect.stringMatching(/Unrecognized key: "(namespce|phase|x)"/)]);
});

test('what is missing is said to be missing, and what is no JSON how to send it', async () => {
  const { call } = await world();
  expect(await call('POST', '/api/evaluations', '{}', { 'content-type': 'application/json' })).toMatchObject({
    status: 400, errors: [{ field: 'body.metadata', message: 'is missing' }, { field: 'body.spec', message: 'is missing' }],
  });
  expect(await call('POST', '/api/evaluations', 'a=b', { 'content-type': 'text/plain' })).toMatchObject({
    status: 415, detail: expect.stringContaining('content-type: application/json') as string,
  });
});

test('what has finished is not cancelled', async () => {
  const verdict = { class: 'Succeeded' };
  const over = await world({ rows: [{ phase: 'Succeeded', verdict, passed: null, finishedAt: new Date(), withdrawnAt: null }] });
  expect(await over.call('POST', `/api/evaluations/${UID}/cancel`)).toMatchObject({ status: 409, detail: 'it had already finished (Succeeded): there is nothing to cancel' });
  expect(over.done).toEqual([]);
  const running = await world({ rows: [{ phase: 'Running', verdict: null, finishedAt: null, withdrawnAt: null }] });
  expect((await running.call('POST', `/api/evaluations/${UID}/cancel`)).status).toBe(202);
  expect(running.done).toEqual(['cancelled']);
});

test('whoever may not create is told so, and not that a UID cannot be read', async () => {
  const body = JSON.stringify({ metadata: { namespace: 'default' }, spec: { runtime: 'python', code: 'x' } });
  const submit = async (may: boolean) =>
    await (await world({ hidden: true, may: ({ verb }) => verb !== 'create' || may })).call('POST', '/api/evaluations', body, { 'content-type': 'application/json' });
  expect(await submit(false)).toMatchObject({ status: 403, detail: 'you may not create evaluations in namespace "default"' });
  expect(await submit(true)).toMatchObject({ status: 403, detail: expect.stringContaining('you may not get namespace "default"') as string });
});

test('a plan knows the pause of everybody and of the namespace, and says which it may not look at', async () => {
  const on = (reason?: string) => ({ data: { paused: 'true', ...(reason && { reason }) } });
  const asked = async (switches: { [namespace: string]: object | null | undefined }, ownNamespace: string | null = 'system') => {
    const cluster = { pauseSwitch: async (_: string, namespace: string) => switches[namespace] };
    return await pauses({ cluster, operator: { ownNamespace: ownNamespace ?? undefined } } as unknown as Services, caller as never, { metadata: { namespace: 'evals' } } as never);
  };
  expect(await asked({ system: null, evals: { data: {} } })).toEqual({ paused: null, unseen: [] });
  expect((await asked({ system: on('back at five'), evals: on() })).paused).toBe('Crucible is paused: back at five');
  expect(await asked({ evals: on('mine') }, null)).toEqual({ paused: 'Namespace "evals" is paused: mine', unseen: [] });
  const blind = await asked({ evals: on('mine') });
  expect(blind).toEqual({ paused: 'Namespace "evals" is paused: mine', unseen: ['Crucible is not paused: you may not look at ConfigMap crucible-pause in system'] });
});
