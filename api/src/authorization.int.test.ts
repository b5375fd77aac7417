import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { ApiProcess, Call } from './testing/process.ts';
import type { Run } from './testing/record.ts';
import { World } from './testing/world.ts';

// Several processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

// Each route of the contract × kinds of tokens × namespaces. The routes come from the contract: one without a rule here
// fails, and so does a rule without a route.

const contract = parse(readFileSync(join(import.meta.dirname, '../openapi.yaml'), 'utf8')) as {
  paths: Record<string, Record<string, { operationId: string; 'x-crucible-access': string }>>;
};
const OPERATIONS = Object.entries(contract.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, { operationId, 'x-crucible-access': access }]) => ({ path, method: method.toUpperCase(), operationId, access })),
);

type Person = 'reader' | 'writer' | 'otherTeam' | 'auditor';
interface Rule {
  /** Who may in the namespace of reader and writer. The auditor may list and get everywhere, and change nothing. */
  readonly may: readonly Person[];
  readonly ok: number;
  /** What everybody else is told whom the cluster knows. */
  readonly refused: number;
  readonly query?: (namespace: string) => string;
  readonly body?: (namespace: string) => unknown;
  /** About the cluster: the namespace makes no difference. */
  readonly everywhere?: true;
}

const anyone: Person[] = ['reader', 'writer', 'otherTeam', 'auditor'];
const seers: Person[] = ['reader', 'writer', 'auditor'];
const get: Rule = { may: seers, ok: 200, refused: 404 };
const everyone: Rule = { may: anyone, ok: 200, refused: 0, everywhere: true };
// Where the cluster is weak is for those who may see its SecurityDrills.
const drills: Rule = { may: ['auditor'], ok: 200, refused: 403, everywhere: true };
const list: Rule = { may: seers, ok: 200, refused: 403, query: (namespace) => `?namespace=${namespace}` };
const submission = (namespace: string) => ({ metadata: { namespace }, spec: { runtime: world.cluster.runtime, code: 'x' } });
const pause: Rule = { may: ['writer'], ok: 200, refused: 403, body: (namespace) => ({ namespace }) };

const RULES: Record<string, Rule> = {
  getContract: everyone, getSession: everyone, getSystem: everyone,
  // Bound for these people by the test, as the chart does for researchers.
  listRuntimes: { may: ['reader', 'writer', 'otherTeam'], ok: 200, refused: 403, everywhere: true },
  listDrills: drills, getDrill: drills,
  submitEvaluation: { may: ['writer'], ok: 202, refused: 403, body: submission },
  planEvaluation: { may: ['writer'], ok: 200, refused: 403, body: submission },
  listEvaluations: list, getQueue: list, getStorageOverview: list, listDatabaseItems: list, listFileItems: list, listRedisItems: list, streamEvents: list,
  listSuites: list,
  pauseQueue: pause, resumeQueue: pause,
  getEvaluation: get, getCompleteEvaluation: get, getEvaluationStatus: get, getOutput: get, streamOutput: get, listArtifacts: get,
  getArtifact: get, streamEvaluationEvents: get, getBundle: get, getSuite: get,
  // Seen by all who may get it, and changed with their own token.
  cancelEvaluation: { may: ['writer'], ok: 202, refused: 404 },
};
/** Those see the run, so that they are told what they lack. */
const seesBut403 = (operationId: string, person: Person): boolean => operationId === 'cancelEvaluation' && seers.includes(person);

let world: World;
let api: ApiProcess;
const tokens = {} as Record<Person, string>;
const nobody = {} as Record<'anonymous' | 'garbage' | 'expired' | 'wrongAudience' | 'deletedAccount', string | undefined>;
const runs = new Map<string, Run>();
/** What has finished cannot be cancelled. */
const unfinished = new Map<string, Run>();
const suites = new Map<string, string>();
let drill: string;

beforeAll(async () => {
  world = await World.start();
  const { cluster } = world;
  tokens.reader = await cluster.person('reader', 'reader', cluster.evals);
  tokens.writer = await cluster.person('writer', 'writer', cluster.evals);
  tokens.otherTeam = await cluster.person('other-team', 'writer', cluster.other);
  tokens.auditor = await cluster.auditor('auditor');
  nobody.anonymous = undefined;
  nobody.garbage = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.';
  nobody.expired = await cluster.expiredToken('writer');
  nobody.wrongAudience = await cluster.token('writer', { audiences: ['vault'] });
  nobody.deletedAccount = await cluster.person('deleted', 'writer', cluster.evals);
  await cluster.must('DELETE', `/api/v1/namespaces/${cluster.system}/serviceaccounts/deleted`);
  for (const namespace of [cluster.evals, cluster.other]) {
    runs.set(namespace, await liveRun(namespace));
    unfinished.set(namespace, await world.record.running(await created(namespace, 'matrix-running')));
    suites.set(namespace, await world.record.suite(namespace));
  }
  drill = await world.record.drill();
  api = await world.api();
}, 120_000);
afterAll(() => world?.stop());

/** In the cluster and in the record, with output and an artifact. */
async function liveRun(namespace: string): Promise<Run> {
  return await world.record.finished({ ...(await created(namespace, 'matrix')), artifacts: { 'out/a.txt': Buffer.from('a') } });
}

async function created(namespace: string, name: string): Promise<{ namespace: string; name: string; uid: string }> {
  const object = { apiVersion: 'crucible.dev/v1alpha1', kind: 'Evaluation', metadata: { name, namespace }, spec: { runtime: world.cluster.runtime, code: 'x' } };
  const { metadata } = await world.cluster.must('POST', `/apis/crucible.dev/v1alpha1/namespaces/${namespace}/evaluations`, object);
  return { namespace, name, uid: metadata.uid as string };
}

function callOf(operation: (typeof OPERATIONS)[number], namespace: string, token: string | undefined): [string, Call] {
  const rule = RULES[operation.operationId];
  const ids = { suites: suites.get(namespace)!, drills: drill };
  const id = ids[operation.path.split('/')[2] as keyof typeof ids] ?? (operation.operationId === 'cancelEvaluation' ? unfinished : runs).get(namespace)!.uid;
  const path = operation.path.replace('{id}', id).replace('{stream}', 'stdout').replace('{path}', encodeURIComponent('out/a.txt'));
  const body = rule?.body?.(namespace);
  return [path + (rule?.query?.(namespace) ?? ''), { method: operation.method, token, ...(body !== undefined && { body }) }];
}

/** Headers are enough: event streams never end. */
async function statusOf([path, call]: [string, Call]): Promise<{ status: number; type: string; body: string }> {
  const message = await api.open(path, call, false);
  const type = message.headers['content-type'] ?? '';
  let body = '';
  if (type.includes('event-stream')) message.destroy();
  else for await (const chunk of message) body += String(chunk);
  return { status: message.statusCode ?? 0, type, body };
}

const guarded = OPERATIONS.filter(({ access }) => access !== 'public');

test('every route has a rule, and the public ones are those that are known to be', () => {
  expect(OPERATIONS.filter(({ access }) => access === 'public').map(({ operationId }) => operationId).sort()).toEqual(['createSession', 'deleteSession', 'isAlive', 'isReady']);
  expect(guarded.map(({ operationId }) => operationId).filter((id) => RULES[id] === undefined)).toEqual([]);
});

test.each(guarded.map((operation) => [operation.operationId, operation] as const))('%s', async (operationId, operation) => {
  const rule = RULES[operationId]!;
  const { evals, other } = world.cluster;
  for (const [kind, token] of Object.entries(nobody)) {
    const answer = await statusOf(callOf(operation, evals, token));
    expect([kind, answer.status, answer.type], kind).toEqual([kind, 401, 'application/problem+json']);
  }
  for (const person of anyone) {
    for (const [namespace, home] of [[evals, person !== 'otherTeam'], [other, person === 'otherTeam' || person === 'auditor']] as const) {
      const rights: readonly Person[] = person === 'otherTeam' && home ? [...rule.may, 'otherTeam'] : rule.may;
      const may = rule.everywhere === true ? rule.may.includes(person) : rights.includes(person) && home;
      const refused = seesBut403(operationId, person) && home ? 403 : rule.refused;
      const answer = await statusOf(callOf(operation, namespace, tokens[person]));
      expect(answer.status, `${person} in ${namespace === evals ? 'evals' : 'other'}: ${answer.body.slice(0, 300)}`).toBe(may ? rule.ok : refused);
      if (!may) expect(answer.type).toBe('application/problem+json');
    }
  }
});

test('whoever may not cancel is told so of what has finished, too', async () => {
  const { uid } = runs.get(world.cluster.evals)!;
  const cancel = async (token: string) => (await api.call(`/api/evaluations/${uid}/cancel`, { method: 'POST', token })).status;
  expect([await cancel(tokens.reader), await cancel(tokens.writer), await cancel(tokens.otherTeam)]).toEqual([403, 409, 404]);
});

describe('what is answered does not tell what exists', () => {
  const without = (text: string) => text.replace(/"instance":"[^"]*"/, '');
  test('a run of others and one that never was', async () => {
    const hidden = await api.call(`/api/evaluations/${runs.get(world.cluster.other)!.uid}`, { token: tokens.reader });
    const none = await api.call('/api/evaluations/6a3b8f5e-0000-4000-8000-000000000000', { token: tokens.reader });
    expect([hidden.status, without(hidden.text)]).toEqual([none.status, without(none.text)]);
  });
  test('a namespace of others and one that never was', async () => {
    const hidden = await api.call(`/api/evaluations?namespace=${world.cluster.other}`, { token: tokens.reader });
    const none = await api.call('/api/evaluations?namespace=never-was', { token: tokens.reader });
    expect(without(hidden.text).replace(world.cluster.other, 'never-was')).toBe(without(none.text));
  });
});

test('lists, totals and events hold what the caller may list and nothing else', async () => {
  const seen = async (token: string) => new Set((await api.call('/api/evaluations?limit=500', { token })).json.items.map(({ namespace }: { namespace: string }) => namespace));
  const { evals, other } = world.cluster;
  expect(await seen(tokens.reader)).toEqual(new Set([evals]));
  expect(await seen(tokens.otherTeam)).toEqual(new Set([other]));
  expect(await seen(tokens.auditor)).toEqual(new Set([evals, other]));
  const files = async (token: string) => (await api.call('/api/storage/overview', { token })).json.backends.file.files as number;
  expect(await files(tokens.auditor)).toBe((await files(tokens.reader)) + (await files(tokens.otherTeam)));
});

// No operator runs here: the record goes on calling the old namespace the present one.
test('a namespace made again under an old name inherits nothing, also while the operator is away; who may list everywhere still sees what was', async () => {
  const { cluster } = world;
  const name = `${cluster.system}-again`;
  const oldUid = await cluster.makeNamespace(name);
  const [writer, viewer, blind] = [await cluster.person('again-w', 'writer', name), await cluster.person('again-r', 'reader', name), await cluster.person('again-b', 'blind', name)];
  const old = await liveRun(name);
  const sees = async (who: string) => (await api.call(`/api/evaluations/${old.uid}`, { token: who })).status;
  const list = async (who: string) => await api.call(`/api/evaluations?namespace=${name}`, { token: who });
  expect([await sees(writer), await sees(viewer), (await list(viewer)).json.items.length]).toEqual([200, 200, 1]);
  const { metadata } = await cluster.must('DELETE', `/api/v1/namespaces/${name}`);
  await cluster.must('PUT', `/api/v1/namespaces/${name}/finalize`, { apiVersion: 'v1', kind: 'Namespace', metadata: { name, resourceVersion: (metadata as { resourceVersion: string }).resourceVersion }, spec: { finalizers: [] } });
  const newUid = await cluster.makeNamespace(name);
  const { rows } = await world.database.query('SELECT uid FROM crucible.namespaces WHERE name = $1 AND gone_at IS NULL', [name]);
  expect(rows).toEqual([{ uid: oldUid }]);
  // RoleBindings live on in etcd without a namespace controller; the rows must not.
  for (const who of [writer, viewer]) await api.until('the old namespace to be forgotten', async () => (await sees(who)) === 404);
  expect([(await list(writer)).json.items, (await list(viewer)).json.items]).toEqual([[], []]);
  // Who may not look at the namespace cannot be told which records are its: none, and why.
  expect([await sees(blind), (await list(blind)).status, (await list(blind)).json.detail]).toEqual([404, 403, expect.stringContaining('crucible-viewer')]);
  expect((await api.call('/api/evaluations', { token: blind })).json.items).toEqual([]);
  const body = { metadata: { namespace: name }, spec: { runtime: cluster.runtime, code: 'x' } };
  expect((await api.call('/api/evaluations', { method: 'POST', token: blind, body })).status).toBe(403);
  const { json } = await api.call('/api/evaluations', { method: 'POST', token: writer, body });
  expect((await api.call(`/api/eval-status/${json.id}`, { token: writer })).status).toBe(202);
  const recorded = await world.database.query('SELECT namespace_uid AS uid FROM crucible.submissions WHERE uid = $1', [json.id]);
  expect(recorded.rows).toEqual([{ uid: newUid }]);
  expect([await sees(tokens.auditor), (await list(tokens.auditor)).json.items.length]).toEqual([200, 1]);
});

test('a session is a token in a cookie that scripts cannot read, and changes need its other half', async () => {
  const wrong = await api.call('/api/session', { method: 'POST', body: { token: 'nothing' } });
  expect([wrong.status, wrong.headers['set-cookie']]).toEqual([401, undefined]);
  const made = await api.call('/api/session', { method: 'POST', body: { token: tokens.writer } });
  const [cookie = ''] = made.headers['set-cookie'] ?? [];
  expect(made.status).toBe(201);
  expect(cookie).toMatch(/^crucible_session=[^;]+; Max-Age=\d+; Path=\/; HttpOnly; Secure; SameSite=Strict$/);
  expect(made.text).not.toContain(tokens.writer);
  const headers = { cookie: cookie.split(';')[0]! };
  expect((await api.call('/api/evaluations', { headers })).status).toBe(200);
  expect((await api.call('/api/session', { headers })).json.csrfToken).toBe(made.json.csrfToken);
  const body = submission(world.cluster.evals);
  const post = async (more: Record<string, string>) => (await api.call('/api/evaluations', { method: 'POST', body, headers: { ...headers, ...more } })).status;
  expect(await post({})).toBe(403);
  expect(await post({ 'x-csrf-token': 'x'.repeat(32) })).toBe(403);
  expect(await post({ 'x-csrf-token': made.json.csrfToken as string })).toBe(202);
  expect((await api.call('/api/evaluations', { headers: { cookie: `${headers.cookie}x` } })).status).toBe(401);
  const gone = await api.call('/api/session', { method: 'DELETE' });
  expect([gone.status, gone.headers['set-cookie']?.[0]]).toEqual([204, expect.stringContaining('crucible_session=;')]);
});

test('no token and no secret is in the log', () => {
  for (const secret of [...Object.values(tokens), ...Object.values(nobody)]) if (secret !== undefined) expect(api.log).not.toContain(secret.slice(-40));
  expect(api.log).toContain('"msg":"request"');
  expect(api.log).not.toMatch(/Bearer ey|crucible_session=ey|test-api-password/);
});
