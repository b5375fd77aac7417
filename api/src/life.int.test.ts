import { createHash, randomBytes } from 'node:crypto';
import { SubmissionRepository, findOwner } from '@crucible/storage';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { ApiProcess } from './testing/process.ts';
import { World, newUid } from './testing/world.ts';

// Several processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

// A run through the API, from its submission to its artifacts, on the built process and real servers.

let world: World;
let api: ApiProcess;
let writer: string;

beforeAll(async () => {
  world = await World.start();
  [api, writer] = await Promise.all([world.api(), world.cluster.person('writer', 'writer', world.cluster.evals)]);
});
afterAll(() => world?.stop());

const body = (name?: string) => ({
  metadata: { namespace: world.cluster.evals, ...(name && { name }), labels: { team: 'a' } },
  spec: { runtime: world.cluster.runtime, code: 'print("hello")' },
});
const submit = async (name?: string) => await api.call('/api/evaluations', { method: 'POST', token: writer, body: body(name) });
const status = async (id: string) => await api.call(`/api/eval-status/${id}`, { token: writer });

test('202 from the answer to its submission, 200 when it has finished, 404 for what nobody knows', async () => {
  const accepted = await submit();
  expect([accepted.status, accepted.headers.location]).toEqual([202, `/api/eval-status/${accepted.json?.id}`]);
  const { id, name, namespace } = accepted.json;
  const live = await world.cluster.must('GET', `/apis/crucible.dev/v1alpha1/namespaces/${namespace}/evaluations/${name}`);
  expect(live['metadata']).toMatchObject({ uid: id, labels: { team: 'a' } });
  expect(await status(id)).toMatchObject({ status: 202, json: { finished: false, phase: 'Queued' } });

  const run = await world.record.running({ uid: id, name });
  expect(await status(id)).toMatchObject({ status: 202, json: { finished: false, verdict: null } });
  await world.record.finish(run, Buffer.alloc(0), 0);
  expect(await status(id)).toMatchObject({ status: 200, json: { finished: true, phase: 'Succeeded', verdict: { class: 'Succeeded' } } });
  for (const unknown of [newUid(), 'nothing', '%00', `${id}x`]) expect((await status(unknown)).status).toBe(404);
});

test('what the operator does not accept is no riddle: 202 with the reason, and a 404 that says why there is no record', async () => {
  const { json: { id, name } } = await submit();
  expect((await status(id)).json).toMatchObject({ refused: false });
  const record = async () => await api.call(`/api/evaluations/${id}`, { token: writer });
  expect(await record()).toMatchObject({ status: 404, json: { detail: expect.stringContaining('has not recorded it yet') as string } });
  const submissions = new SubmissionRepository(world.database);
  const owner = (await findOwner(world.database, id))!;
  const tell = async (reason: string, message: string, refused: boolean) =>
    await submissions.tell({ ...owner, createdAt: new Date(), reason, message, refused });
  await tell('DrillIncomplete', 'Not shown to hold.', false);
  expect((await status(id)).json).toMatchObject({ refused: false, queueReason: 'DrillIncomplete' });
  expect((await record()).json.detail).toContain('is waiting to be admitted and hence not recorded: DrillIncomplete');
  await tell('RuntimeNotFound', 'There is none.', true);
  expect(await status(id)).toMatchObject({ status: 202, json: { finished: false, refused: true, phase: 'Queued', queueReason: 'RuntimeNotFound', queueMessage: 'There is none.' } });
  for (const path of ['', '/complete']) {
    const { status: code, json } = await api.call(`/api/evaluations/${id}${path}`, { token: writer });
    expect([code, json.detail]).toEqual([404, expect.stringContaining(`${name} is not accepted and hence not recorded: RuntimeNotFound: There is none.`)]);
  }
  const run = await world.record.running({ uid: id, name });
  expect((await status(id)).json).toMatchObject({ refused: false });
  await world.record.finish(run, Buffer.alloc(0), 0);
});

test('what the API server refuses is refused in its words: unknown fields, taken names, other namespaces', async () => {
  const unknown = await api.call('/api/evaluations', { method: 'POST', token: writer, body: { ...body(), spec: { ...body().spec, hostPath: '/' } } });
  expect([unknown.status, unknown.json.detail]).toEqual([400, expect.stringContaining('unknown field "spec.hostPath"')]);
  const { json } = await submit('taken');
  expect(json.name).toBe('taken');
  expect((await submit('taken')).status).toBe(409);
  const elsewhere = await api.call('/api/evaluations', { method: 'POST', token: writer, body: { ...body(), metadata: { namespace: world.cluster.other } } });
  expect([elsewhere.status, elsewhere.headers['content-type']]).toEqual([403, 'application/problem+json']);
  expect(elsewhere.json.detail).toBe(`you may not create evaluations in namespace "${world.cluster.other}"`);
  const wrong = await api.call('/api/evaluations', { method: 'POST', token: writer, body: { ...body(), spec: { code: 1 } } });
  expect(wrong.json).toMatchObject({ status: 400, errors: expect.arrayContaining([{ field: 'body.spec.code', message: expect.any(String) as string }]) as object });
});

test('cancel patches the live object once, and says so when another one has its name', async () => {
  const { json } = await submit();
  const cancelled = await api.call(`/api/evaluations/${json.id}/cancel`, { method: 'POST', token: writer });
  expect(cancelled).toMatchObject({ status: 202, json: { id: json.id } });
  const path = `/apis/crucible.dev/v1alpha1/namespaces/${world.cluster.evals}/evaluations/${json.name}`;
  expect((await world.cluster.must('GET', path))['spec'].cancel).toBe(true);
  expect((await api.call(`/api/evaluations/${json.id}/cancel`, { method: 'POST', token: writer })).status).toBe(202);
  await world.cluster.must('DELETE', path);
  expect((await api.call(`/api/evaluations/${json.id}/cancel`, { method: 'POST', token: writer })).status).toBe(404);
  await submit(json.name as string);
  expect((await api.call(`/api/evaluations/${json.id}/cancel`, { method: 'POST', token: writer })).status).toBe(409);
});

test('what has finished is not cancelled: the object in the cluster stays as it is', async () => {
  const { json: { id, name } } = await submit();
  const run = await world.record.running({ uid: id, name });
  await world.record.finish(run, Buffer.alloc(0), 0);
  const cancelled = await api.call(`/api/evaluations/${id}/cancel`, { method: 'POST', token: writer });
  expect([cancelled.status, cancelled.json.detail]).toEqual([409, 'it had already finished (Succeeded): there is nothing to cancel']);
  const live = await world.cluster.must('GET', `/apis/crucible.dev/v1alpha1/namespaces/${world.cluster.evals}/evaluations/${name}`);
  expect(live['spec'].cancel).not.toBe(true);
});

test('a plan says that it would wait, and what the caller may not look at', async () => {
  const { evals, system, other } = world.cluster;
  const plan = async () => (await api.call('/api/plans', { method: 'POST', token: writer, body: body('planned') })).json;
  const paused = async (namespace: string, data: object) => {
    const done = await world.cluster.admin.mergePatch(`/api/v1/namespaces/${namespace}/configmaps/crucible-pause`, { data });
    expect(done.status).toBe(200);
  };
  expect(await plan()).toMatchObject({ admitted: true, paused: null, assumptions: expect.arrayContaining([`Crucible is not paused: you may not look at ConfigMap crucible-pause in ${system}`]) as object });
  await paused(evals, { paused: 'true', reason: 'new nodes' });
  expect(await plan()).toMatchObject({ admitted: true, paused: `Namespace "${evals}" is paused: new nodes` });
  await paused(evals, { paused: 'false', reason: null });
  await paused(other, { paused: 'true' });
  expect((await plan()).paused).toBeNull();
  await paused(other, { paused: 'false' });
});

test('a parameter that nobody knows is refused, and not taken for none', async () => {
  const { uid } = await world.record.finished();
  for (const address of ['/api/evaluations?namespce=x', '/api/evaluations?phase=Nope', '/api/suites?x=1', '/api/queue?x=1', '/api/storage/file?x=1', '/api/drills?x=1', `/api/evaluations/${uid}/artifacts?x=1`, '/api/events?x=1']) {
    const { status: code, json } = await api.call(address, { token: writer });
    expect([code, json.detail], address).toEqual([400, expect.stringMatching(/Unrecognized key: "(namespce|phase|x)"/)]);
  }
});

test('a plan shows the pod and the queue, makes nothing, and says why something would be refused', async () => {
  const good = await api.call('/api/plans', { method: 'POST', token: writer, body: body('planned') });
  expect(good).toMatchObject({ status: 200, json: { admitted: true, pod: { kind: 'Pod', spec: { automountServiceAccountToken: false } }, queue: { limit: 20 } } });
  expect((await world.cluster.admin.get(`/apis/crucible.dev/v1alpha1/namespaces/${world.cluster.evals}/evaluations/planned`)).status).toBe(404);
  const bad = await api.call('/api/plans', { method: 'POST', token: writer, body: { ...body(), spec: { runtime: 'cobol', code: 'x' } } });
  expect(bad.json).toMatchObject({ admitted: false, reason: 'RuntimeNotFound', message: expect.stringContaining('Known ones: ') as string, pod: null });
});

test('a plan needs no look at the runtimes: what it takes for granted is said, and no pod is made up', async () => {
  const blind = await world.cluster.person('no-runtimes', 'writer', world.cluster.evals, { seesRuntimes: false });
  const plan = async (spec: object) => await api.call('/api/plans', { method: 'POST', token: blind, body: { ...body('planned'), spec: { ...body().spec, ...spec } } });
  const assumed = `EvaluationRuntime ${world.cluster.runtime} exists and allows this: you may not look at it`;
  expect(await plan({})).toMatchObject({ status: 200, json: { admitted: true, pod: null, policy: null, assumptions: expect.arrayContaining([expect.stringContaining(assumed)]) as object } });
  expect(await plan({ queue: 'fair' })).toMatchObject({ status: 200, json: { admitted: false, reason: 'KueueNotEnabled' } });
});

test('output comes as it was written, whole and in ranges, and stays the same under its entity tag', async () => {
  const stdout = randomBytes(300_000);
  const { uid } = await world.record.finished({ stdout });
  const path = `/api/evaluations/${uid}/output/stdout`;
  const whole = await api.call(path, { token: writer });
  const etag = `"${createHash('sha256').update(stdout).digest('hex')}"`;
  expect([whole.status, whole.headers.etag, whole.headers['content-length']]).toEqual([200, etag, '300000']);
  expect(whole.body.equals(stdout)).toBe(true);
  expect(whole.headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'content-security-policy': expect.stringContaining('sandbox') as string });
  const part = async (headers: Record<string, string>) => await api.call(path, { token: writer, headers });
  const range = await part({ range: 'bytes=65530-131080' });
  expect([range.status, range.headers['content-range']]).toEqual([206, 'bytes 65530-131080/300000']);
  expect(range.body.equals(stdout.subarray(65_530, 131_081))).toBe(true);
  expect((await part({ range: 'bytes=-7' })).body.equals(stdout.subarray(-7))).toBe(true);
  const beyond = await part({ range: 'bytes=300000-' });
  expect([beyond.status, beyond.headers['content-range']]).toEqual([416, 'bytes */300000']);
  expect((await part({ range: 'bytes=0-1', 'if-range': etag })).status).toBe(206);
  expect((await part({ range: 'bytes=0-1', 'if-range': '"old"' })).status).toBe(200);
  expect((await part({ 'if-none-match': etag })).status).toBe(304);
  for (const odd of ['bytes=0-0,2-3', 'bytes=5-1', 'lines=1-2', 'bytes=x', `bytes=${'9'.repeat(40)}-`]) expect((await part({ range: odd })).status).toBe(200);
  expect((await api.call(`${path}?attempt=2`, { token: writer })).status).toBe(404);
});

test('artifacts are listed and downloaded by whatever they are called', async () => {
  const artifacts = { 'out/a b.txt': Buffer.from('one'), '../../etc/passwd': Buffer.from('two'), 'ü"\r\nx: y/%2e%2e': randomBytes(1000), 'out/<script>.html': Buffer.from('<script>') };
  const { uid } = await world.record.finished({ artifacts });
  const list = await api.call(`/api/evaluations/${uid}/artifacts`, { token: writer });
  expect(list.json.items.map(({ path }: { path: string }) => path)).toEqual(Object.keys(artifacts));
  for (const [path, content] of Object.entries(artifacts)) {
    const found = await api.call(`/api/evaluations/${uid}/artifacts/${encodeURIComponent(path)}`, { token: writer });
    expect([found.status, found.headers['content-type']]).toEqual([200, 'application/octet-stream']);
    expect(found.body.equals(content)).toBe(true);
    expect(found.headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'content-disposition': expect.stringMatching(/^attachment; filename="[A-Za-z0-9._-]+"; filename\*=UTF-8''[\w.%!~-]+$/) as string });
    expect(found.headers['content-security-policy']).toContain('sandbox');
  }
  for (const path of ['out', 'out/a%20b.tx', '..%2f..%2f..%2fetc%2fpasswd', '%2fetc%2fpasswd', '%00', '%ff'])
    expect((await api.call(`/api/evaluations/${uid}/artifacts/${path}`, { token: writer })).status, path).toBeOneOf([400, 404]);
});

test('everything about a run in one answer, and it is in the lists of those who may see it', async () => {
  const label = `l${newUid().slice(0, 8)}`;
  const run = await world.record.finished({ labels: { label }, artifacts: { a: randomBytes(10) } });
  const { uid, name } = run;
  await world.record.told(run, 'Pulled', 'already present on machine');
  const complete = await api.call(`/api/evaluations/${uid}/complete`, { token: writer });
  expect(complete).toMatchObject({ status: 200, json: { evaluation: { uid, name, attempts: [{ capture: { complete: true } }] }, events: expect.any(Array) as object } });
  const kubernetesEvent = { objectKind: 'Pod', reason: 'Pulled', type: 'Normal', component: 'kubelet', message: 'already present on machine', count: 2, firstSeenAt: expect.any(String) as string };
  expect(complete.json.timeline).toEqual(expect.arrayContaining([
    expect.objectContaining({ type: 'kubernetes.event', source: 'cluster', seq: null, attempt: 1, kubernetesEvent: expect.objectContaining(kubernetesEvent) as object }),
    expect.objectContaining({ type: 'evaluation.finished', source: 'record', kubernetesEvent: null }),
  ]));
  expect(complete.json.storage_locations).toEqual(expect.arrayContaining([expect.objectContaining({ backend: 'file', holds: 'artifact' }), expect.objectContaining({ backend: 'database', holds: 'record' })]));
  const list = async (query: string) => (await api.call(`/api/evaluations?${query}`, { token: writer })).json.items.map((item: { uid: string }) => item.uid) as string[];
  expect(await list(`label=label%3D${label}`)).toEqual([uid]);
  expect(await list(`label=label%3D${label}&status=Failed`)).toEqual([]);
  expect(await list(`label=label%3D${label}&verdict=Succeeded&namespace=${world.cluster.evals}`)).toEqual([uid]);
  expect((await api.call(`/api/evaluations?label=${encodeURIComponent('a b c')}`, { token: writer })).status).toBe(400);
  expect((await api.call('/api/evaluations?cursor=AAAA', { token: writer })).status).toBe(400);
});

test('output can be followed while it grows, from where one was', async () => {
  const run = await world.record.running();
  const pieces = [randomBytes(1000), randomBytes(70_000).subarray(0, 60_000), randomBytes(10)];
  await world.record.append(run, pieces[0]!, 0);
  const message = await api.open(`/api/evaluations/${run.uid}/output/stdout/stream`, { token: writer, headers: { 'last-event-id': '400' } });
  let text = '';
  message.on('data', (data: Buffer) => (text += data.toString()));
  await world.record.append(run, pieces[1]!, 1);
  await api.until('the second piece', () => text.includes('id: 61000'));
  await world.record.append(run, pieces[2]!, 2);
  await world.record.finish(run, Buffer.concat(pieces), 3);
  await api.until('its end', () => text.includes('event: end'));
  const data = [...text.matchAll(/event: output\ndata: (.*)\n/g)].map(([, json]) => Buffer.from((JSON.parse(json!) as { data: string }).data, 'base64'));
  expect(Buffer.concat(data).equals(Buffer.concat(pieces).subarray(400))).toBe(true);
  const sha256 = createHash('sha256').update(Buffer.concat(pieces)).digest('hex');
  expect(JSON.parse(/event: end\ndata: (.*)\n/.exec(text)![1]!)).toEqual({ attempt: 1, bytes: 61_010, sha256, complete: true, truncated: false, unavailable: 0 });
});

test('a stream of output that is opened while the run waits ends with the run, also when no attempt was ever made', async () => {
  const run = await world.record.accepted();
  const message = await api.open(`/api/evaluations/${run.uid}/output/stdout/stream`, { token: writer }, false);
  let text = '';
  message.on('data', (data: Buffer) => (text += data.toString()));
  await world.record.cancelled(run);
  await api.until('its end', () => text.includes('event: end'));
  expect(text).toContain('"bytes":0,"sha256":null,"complete":false');
});

test('the queue has positions, is paused and resumed by those who may, and the rest of the catalogue answers', async () => {
  const { uid } = await world.record.accepted();
  const queue = await api.call('/api/queue', { token: writer });
  expect(queue.json.items).toContainEqual(expect.objectContaining({ uid, stage: 'Queued', position: expect.any(Number) as number }));
  const pause = await api.call('/api/queue/pause', { method: 'POST', token: writer, body: { namespace: world.cluster.evals, reason: 'upgrade' } });
  expect(pause).toMatchObject({ status: 200, json: { paused: true } });
  const map = `/api/v1/namespaces/${world.cluster.evals}/configmaps/crucible-pause`;
  expect((await world.cluster.must('GET', map))['data']).toEqual({ paused: 'true', reason: 'upgrade' });
  await api.call('/api/queue/resume', { method: 'POST', token: writer, body: { namespace: world.cluster.evals } });
  expect((await world.cluster.must('GET', map))['data'].paused).toBe('false');
  expect((await api.call('/api/queue/pause', { method: 'POST', token: writer, body: {} })).status).toBe(403);
  for (const path of ['runtimes', 'system', 'storage/overview', 'storage/database', 'storage/file', 'storage/redis', 'session', 'suites', 'openapi.yaml'])
    expect((await api.call(`/api/${path}`, { token: writer })).status, path).toBe(200);
  const overview = (await api.call('/api/storage/overview', { token: writer })).json;
  expect(overview.backends).toMatchObject({ database: { evaluations: expect.any(Number) as number, size_bytes: expect.any(Number) as number }, redis: { keys: expect.any(Number) as number }, file: { files: expect.any(Number) as number, total_size_bytes: expect.any(Number) as number } });
});

test('drills are listed by RuntimeClass and by page; a report has its rules with every attack and its evidence', async () => {
  const auditor = await world.cluster.auditor('auditor');
  const ids = [await world.record.drill(), await world.record.drill('gvisor'), await world.record.drill('gvisor')].reverse();
  const list = async (query = '') => (await api.call(`/api/drills${query}`, { token: auditor })).json;
  expect((await list()).items.map(({ id }: { id: string }) => id)).toEqual(ids);
  const first = await list('?runtimeClass=gvisor&limit=1');
  expect(first.items).toMatchObject([{ id: ids[0], kind: 'quick', runtimeClass: 'gvisor', outcome: 'broken', held: 1, broken: 1, open: 0 }]);
  expect((await list(`?runtimeClass=gvisor&limit=1&cursor=${first.nextCursor}`)).items).toMatchObject([{ id: ids[1] }]);
  expect((await list('?runtimeClass=')).items).toMatchObject([{ id: ids[2], runtimeClass: null }]);
  expect((await api.call('/api/drills?cursor=x', { token: auditor })).status).toBe(400);
  const report = (await api.call(`/api/drills/${ids[0]}`, { token: auditor })).json;
  expect(report.rules).toMatchObject([
    { rule: 1, outcome: 'held', attacks: [{ attack: 'identity', evidence: 'uid: 100000' }] },
    { rule: 15, title: expect.stringContaining('egress') as string, outcome: 'broken', evidence: 'tcp: it answered', attacks: [{ attack: 'egress', outcome: 'broken' }, { attack: 'gone', title: '' }] },
  ]);
  expect((await api.call(`/api/drills/${newUid()}`, { token: auditor })).status).toBe(404);
});

test('who waits behind hundreds is told its position', async () => {
  // Not all at once: whoever waits too long for a connection is told that Postgres is away.
  for (let i = 0; i < 17; i += 1) await Promise.all(Array.from({ length: 30 }, () => world.record.accepted()));
  const { uid } = await world.record.accepted();
  const last = (await status(uid)).json.queuePosition;
  expect(last).toBeGreaterThan(510);
  expect((await api.call('/api/queue', { token: writer })).json.waiting.Queued).toBe(last);
});
