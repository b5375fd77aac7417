import { once } from 'node:events';
import { connect as tlsConnect } from 'node:tls';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { ApiProcess } from './testing/process.ts';
import { World } from './testing/world.ts';

// Several processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 120_000 });

// What nobody should send: it is refused with a problem document, nothing is created, and the process lives.

let world: World;
let api: ApiProcess;
let writer: string;
let uid: string;

beforeAll(async () => {
  world = await World.start();
  [api, writer] = await Promise.all([world.api(), world.cluster.person('writer', 'writer', world.cluster.evals)]);
  ({ uid } = await world.record.finished({ artifacts: { 'out/a.txt': Buffer.from('a') } }));
});
afterAll(async () => {
  expect(api.child.exitCode).toBeNull();
  expect(api.log).not.toMatch(/"level":(50|60)/);
  await world?.stop();
});

const refused = [400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 431];

test('bodies of every shape are refused, and none of them becomes an Evaluation', { timeout: 120_000 }, async () => {
  const list = `/apis/crucible.dev/v1alpha1/namespaces/${world.cluster.evals}/evaluations`;
  const metadata = { namespace: world.cluster.evals };
  const spec = { runtime: world.cluster.runtime, code: 'x' };
  const wrong = fc.anything({ maxDepth: 3, withNullPrototype: false });
  const body = fc.oneof(
    wrong,
    fc.record({ metadata: wrong, spec: wrong }),
    // Right but for one field.
    fc.tuple(fc.constantFrom('timeoutSeconds', 'env', 'files', 'resources', 'artifacts', 'retry', 'expect', 'unknown', 'hostNetwork'), fc.oneof(fc.integer({ max: -1 }), fc.string(), fc.constant([{}]), fc.constant({ a: 1 })))
      .map(([field, value]) => ({ metadata, spec: { ...spec, [field]: value } })),
    fc.tuple(fc.constantFrom('name', 'namespace', 'generateName', 'finalizers', 'ownerReferences', 'uid'), fc.oneof(fc.constant('../../x'), fc.constant('A B'), fc.integer(), fc.constant(['a'])))
      .map(([field, value]) => ({ metadata: { ...metadata, [field]: value }, spec })),
  );
  await fc.assert(fc.asyncProperty(body, async (value) => {
    const text = JSON.stringify(value);
    if (text === undefined) return;
    const answer = await api.call('/api/evaluations', { method: 'POST', token: writer, body: text });
    expect(refused, `${answer.status} for ${text.slice(0, 300)}`).toContain(answer.status);
    expect(answer.headers['content-type']).toBe('application/problem+json');
  }), { numRuns: 300 });
  expect((await world.cluster.must('GET', list))['items']).toEqual([]);
});

test.each([
  ['not JSON', '{', 400], ['another type', 'a=b', 415, 'application/x-www-form-urlencoded'], ['text', 'x', 415, 'text/plain'],
  ['too much', `"${'x'.repeat(1024 * 1024)}"`, 413], ['a deep nest', `${'['.repeat(50_000)}${']'.repeat(50_000)}`, 400],
  ['prototypes', '{"__proto__":{"a":1},"metadata":{}}', 400], ['constructors', '{"constructor":{"prototype":{"a":1}}}', 400], ['nothing', '', 400],
] as [string, string, number, string?][])('a body of %s', async (_what, body, status, type = 'application/json') => {
  const answer = await api.call('/api/evaluations', { method: 'POST', token: writer, body, headers: { 'content-type': type } });
  expect(answer.status).toBe(status);
  if (status === 415) expect(answer.json.detail).toContain('content-type: application/json');
});

test('what is missing is said to be missing', async () => {
  const { status, json } = await api.call('/api/evaluations', { method: 'POST', token: writer, body: '{}' });
  expect([status, json.errors]).toEqual([400, expect.arrayContaining([{ field: 'body.metadata', message: 'is missing' }])]);
});

const INJECTIONS = [
  "' OR '1'='1", "'; DROP TABLE crucible.evaluations; --", '$1', '%00', '%0d%0aset-cookie:%20a=b', '\\u0000', '..%2f..%2f..%2fetc%2fpasswd', '%2e%2e/%2e%2e', '%ff%fe', '%', '%zz',
  '9'.repeat(5000), '../../../../etc/passwd', '..;/..;/', 'a%3Bb', '%E2%80%AE', "x'||pg_sleep(10)||'", '00000000-0000-0000-0000-000000000000',
];

test('nothing that is put into an address reaches SQL, a header, or a file', { timeout: 60_000 }, async () => {
  const addresses = INJECTIONS.flatMap((text) => [
    `/api/evaluations/${text}`, `/api/eval-status/${text}`, `/api/evaluations/${uid}/output/${text}`, `/api/evaluations/${uid}/artifacts/${text}`,
    `/api/evaluations/${uid}/artifacts/out/${text}`, `/api/${text}`, `/${text}`,
    ...['namespace', 'status', 'verdict', 'label', 'since', 'cursor', 'limit'].map((name) => `/api/evaluations?${name}=${text.replaceAll(' ', '%20')}`),
    `/api/evaluations/${uid}/output/stdout?attempt=${text.replaceAll(' ', '%20')}`,
  ].map((address) => address.replaceAll(' ', '%20')));
  for (const address of addresses) {
    const begun = Date.now();
    const answer = await api.call(address, { token: writer });
    // A label such as `$1`'s neighbours may be valid, and then matches nothing.
    if (answer.status === 200) expect([address, answer.json?.items]).toEqual([address, expect.any(Array)]);
    else expect([address, refused.includes(answer.status)]).toEqual([address, true]);
    expect(answer.headers['set-cookie']).toBeUndefined();
    expect(answer.text).not.toMatch(/root:x:0|syntax error|pg_catalog|SELECT /);
    expect(Date.now() - begun).toBeLessThan(9_000);
  }
});

test('headers of every kind and size', async () => {
  const get = async (headers: Record<string, string>) => await api.call(`/api/evaluations/${uid}/output/stdout`, { token: writer, headers });
  for (const range of ['bytes=-', 'bytes=0-0,'.repeat(20), 'bytes=18446744073709551616-', 'bytes=0-99999999999999999999', `bytes=${'0'.repeat(190)}-1`, 'BYTES=0-1', 'none'])
    expect((await get({ range })).status, range).toBeOneOf([200, 206, 400, 416]);
  expect((await get({ authorization: `Bearer ${'x'.repeat(17_000)}` })).status).toBe(401);
  // On a connection of its own, which ends; the answer may be lost to the client that is still sending.
  const big = api.open('/healthz', { headers: { 'x-big': 'x'.repeat(40_000) } }, false);
  expect(await big.then((message) => message.resume().statusCode, () => 'cut off')).toBeOneOf([431, 'cut off']);
  expect((await get({ authorization: 'Basic YTpi' })).status).toBe(401);
  const echoed = await get({ 'x-request-id': '"><script>' });
  expect(echoed.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  expect((await get({ 'x-request-id': 'mine-1' })).headers['x-request-id']).toBe('mine-1');
  expect((await get({ 'impersonate-user': 'system:admin', 'x-remote-user': 'admin' })).status).toBe(200);
});

test('a request that is sent drop by drop is cut off, and bytes that are not HTTP are too', { timeout: 90_000 }, async () => {
  const open = async () => {
    const socket = tlsConnect({ host: '127.0.0.1', port: api.port, ca: api.ca });
    await once(socket, 'secureConnect');
    return socket.on('error', () => undefined);
  };
  const [slow, nonsense] = await Promise.all([open(), open()]);
  nonsense.write(Buffer.from([0, 1, 2, 3, 255, 254, 10, 10, 13, 10]));
  slow.write('GET /api/evaluations HTTP/1.1\r\nhost: a\r\n');
  const drops = setInterval(() => slow.write('x-a: b\r\n'), 1000);
  await Promise.all([once(slow.resume(), 'close'), once(nonsense.resume(), 'close')]);
  clearInterval(drops);
});
