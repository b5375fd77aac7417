import fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { buildApp } from './app.ts';
import { Authenticator, expiryOf } from './auth/authenticator.ts';
import { SessionSealer } from './auth/session.ts';
import { TtlCache } from './auth/ttl-cache.ts';
import { readConfig } from './config.ts';
import { breakingChanges, type Contract } from './contract.ts';
import { decideRange, notModified } from './http/ranges.ts';
import { Streams } from './live/sse.ts';
import type { Services } from './services.ts';

const base = {
  CRUCIBLE_DATABASE_URL: 'postgres://crucible_api:secret@db/crucible', CRUCIBLE_FILE_STORE_URL: 'file:///data/files', CRUCIBLE_LAUNCHER_IMAGE: 'launcher:1',
};
const tls = { CRUCIBLE_TLS_CERT: '/tls/tls.crt', CRUCIBLE_TLS_KEY: '/tls/tls.key' };

describe('readConfig', () => {
  it('serves HTTPS from the certificate it is given', () => {
    expect(readConfig({ ...base, ...tls }).tls).toEqual({ cert: '/tls/tls.crt', key: '/tls/tls.key' });
  });
  it.each([
    ['no certificate', {}],
    ['a certificate without its key', { CRUCIBLE_TLS_CERT: '/tls/tls.crt' }],
    ['plain HTTP on every address', { CRUCIBLE_INSECURE_DEV: 'true' }],
    ['plain HTTP on an address that is not loopback', { CRUCIBLE_INSECURE_DEV: 'true', HOST: '10.0.0.1' }],
  ])('refuses to start with %s', (_what, env) => {
    expect(() => readConfig({ ...base, ...env })).toThrow(/HTTPS only: set CRUCIBLE_TLS_CERT and CRUCIBLE_TLS_KEY/);
  });
  it('serves plain HTTP on loopback when asked for by name', () => {
    expect(readConfig({ ...base, CRUCIBLE_INSECURE_DEV: 'true', HOST: '127.0.0.1' }).tls).toBeUndefined();
  });
  it('says what is wrong without the value', () => {
    const env = { ...base, ...tls, CRUCIBLE_DATABASE_URL: 'mysql://root:hunter2@db', CRUCIBLE_FILE_STORE_URL: 's3://u:hunter2@x' };
    expect(() => readConfig(env)).toThrow(/CRUCIBLE_DATABASE_URL: a postgres:\/\/ URL.*CRUCIBLE_FILE_STORE_URL/);
    expect(() => readConfig(env)).not.toThrow(/hunter2/);
  });
});

const starting = { notReady: () => 'the database is not migrated yet', streams: new Streams({ total: 1, each: 1 }), now: Date.now, rateLimiter: { take: () => undefined } } as unknown as Services;
const ready = { ...starting, notReady: () => undefined } as unknown as Services;
const build = (services: Services) => buildApp(services, { https: undefined, logger: pino({ level: 'silent' }), metrics: undefined, trustedProxies: [], checkAnswers: true });

describe('the app', () => {
  it('is alive at once, ready when nothing is in the way, and says 503, why and when until then', async () => {
    expect((await (await build(ready)).inject('/readyz')).statusCode).toBe(200);
    const app = await build(starting);
    expect((await app.inject('/healthz')).statusCode).toBe(200);
    for (const url of ['/readyz', '/api/evaluations']) {
      const answer = await app.inject(url);
      expect([answer.statusCode, answer.headers['retry-after'], answer.headers['content-type']]).toEqual([503, '2', 'application/problem+json']);
      expect(answer.json()).toMatchObject({ status: 503, title: 'Service Unavailable', detail: expect.stringContaining('not migrated') as string });
    }
  });
  it('answers an unknown path with a problem document that does not repeat the query', async () => {
    const answer = await (await build(ready)).inject('/api/nothing?token=secret');
    expect(answer.json()).toMatchObject({ status: 404, detail: 'there is nothing at GET /api/nothing' });
    expect(answer.headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'strict-transport-security': expect.any(String) as string, 'x-request-id': expect.any(String) as string });
    expect(answer.headers['content-security-policy']).toContain("default-src 'none'");
  });
  it('does not start with a route that does not say who may use it', async () => {
    const app = await build(ready);
    expect(() => app.get('/api/open', () => 'x')).toThrow(/says who may use it/);
    expect(() => app.get('/api/open', { config: { access: 'caller' } }, () => 'x')).toThrow(/how it is limited/);
  });
  it('answers a broken body with 4xx, and keeps what went wrong inside to the log', async () => {
    const app = await build(ready);
    app.post('/echo', { config: { access: 'public' } }, (request) => request.body);
    app.get('/boom', { config: { access: 'public' } }, () => {
      throw new Error('password=hunter2');
    });
    expect((await app.inject({ method: 'POST', url: '/echo', headers: { 'content-type': 'application/json' }, payload: '{' })).statusCode).toBe(400);
    expect((await app.inject({ method: 'POST', url: '/echo', headers: { 'content-type': 'application/json' }, payload: '{"__proto__":{"a":1}}' })).statusCode).toBe(400);
    const boom = await app.inject('/boom');
    expect([boom.statusCode, boom.body.includes('hunter2')]).toEqual([500, false]);
  });
});

describe('tokens', () => {
  it('are asked for once while the answer holds, and never longer than they live', async () => {
    let now = 1_000_000;
    let asked = 0;
    const whoIs = async () => ((asked += 1), { username: 'a', uid: '', groups: [], extra: {} });
    const authenticator = new Authenticator({ whoIs }, () => now);
    const token = `x.${Buffer.from(JSON.stringify({ exp: now / 1000 + 3 })).toString('base64url')}.y`;
    await Promise.all([authenticator.authenticate(token), authenticator.authenticate(token)]);
    now += 2_900;
    expect(await authenticator.authenticate(token)).toMatchObject({ identity: { username: 'a' } });
    expect(asked).toBe(1);
    now += 200;
    expect(await authenticator.authenticate(token)).toBeUndefined();
    expect(asked).toBe(1);
  });
  it('of one person are counted together, in every process; those of two are not, whatever their names are made of', async () => {
    const named = async (username: string, uid: string, groups: string[] = []) =>
      (await new Authenticator({ whoIs: async () => ({ username, uid, groups, extra: {} }) }, Date.now).authenticate('t'))?.who;
    expect(await named('a', '1', ['x'])).toBe(await named('a', '1', ['y']));
    expect(new Set([await named('a', '1'), await named('a', '2'), await named('b', '1'), await named('a1', '')]).size).toBe(4);
  });
  it('that cannot be tokens are not asked about', async () => {
    const authenticator = new Authenticator({ whoIs: () => Promise.reject(new Error('asked')) }, Date.now);
    for (const bad of ['', 'a\r\nx-admin: 1', 'ü', 'x'.repeat(20_000), 'a b']) expect(await authenticator.authenticate(bad)).toBeUndefined();
  });
  it('of any text are read without an error', () => {
    fc.assert(fc.property(fc.string(), (text) => void expiryOf(text)));
    fc.assert(fc.property(fc.json(), (json) => void expiryOf(`a.${Buffer.from(json).toString('base64url')}.b`)));
  });
});

describe('sessions', () => {
  const secret = 'a'.repeat(64);
  it('open what they sealed, with any of the keys, until it is over; nothing of the token is in the cookie', async () => {
    let now = Date.parse('2026-01-01T00:00:00Z');
    const old = new SessionSealer([secret], () => now);
    const sealed = await old.seal('token-token-token', undefined);
    expect(sealed?.cookie).not.toContain(Buffer.from('token-token').toString('base64url').slice(0, 8));
    const rotated = new SessionSealer(['b'.repeat(64), secret], () => now);
    expect(await rotated.open(sealed!.cookie)).toMatchObject({ token: 'token-token-token', csrf: sealed!.session.csrf });
    expect(await new SessionSealer(['b'.repeat(64)], () => now).open(sealed!.cookie)).toBeUndefined();
    now += 8 * 3600 * 1000 + 1000;
    expect(await rotated.open(sealed!.cookie)).toBeUndefined();
  });
  it('refuse every changed cookie, and tokens that no cookie can hold', async () => {
    const sealer = new SessionSealer([secret], Date.now);
    const { cookie } = (await sealer.seal('t', undefined))!;
    const changed = fc.tuple(fc.nat(cookie.length - 1), fc.constantFrom('A', '-', '.', '!'));
    await fc.assert(fc.asyncProperty(changed, async ([at, char]) => {
      const other = cookie.slice(0, at) + char + cookie.slice(at + 1);
      // The last character of base64url carries bits that nobody reads.
      if (other !== cookie && at !== cookie.length - 1 && cookie[at + 1] !== '.') expect(await sealer.open(other)).toBeUndefined();
    }), { numRuns: 300 });
    expect(await sealer.seal('x'.repeat(4000), undefined)).toBeUndefined();
  });
});

it('answers are kept for their time, a failure never, and never too many', async () => {
  let now = 0;
  const cache = new TtlCache<number>(2, () => now);
  let loads = 0;
  const get = (key: string) => cache.get(key, async () => (loads += 1), () => 1);
  await get('a');
  await get('a');
  expect(loads).toBe(1);
  await get('b');
  await get('c');
  await get('a');
  expect(loads).toBe(4);
  now = 1000;
  await get('a');
  expect(loads).toBe(5);
  await expect(cache.get('x', () => Promise.reject(new Error('no')), () => 1)).rejects.toThrow('no');
  expect(await cache.get('x', async () => 7, () => 1)).toBe(7);
});

describe('ranges', () => {
  it('never reach outside of what there is', () => {
    fc.assert(fc.property(fc.nat(1000), fc.option(fc.nat(1200)), fc.option(fc.nat(1200)), (size, from, to) => {
      const decision = decideRange({ range: `bytes=${from ?? ''}-${to ?? ''}`, ifRange: undefined, etag: undefined, size });
      if (typeof decision === 'string') return;
      expect(decision.first).toBeGreaterThanOrEqual(0);
      expect(decision.last).toBeLessThan(size);
      expect(decision.first).toBeLessThanOrEqual(decision.last);
    }));
    fc.assert(fc.property(fc.string(), (range) => void decideRange({ range, ifRange: undefined, etag: undefined, size: 10 })));
  });
  it('compare entity tags as RFC 9110 says', () => {
    expect([notModified('W/"a", "b"', '"b"'), notModified('*', '"b"'), notModified('"a"', '"b"'), notModified('*', undefined)]).toEqual([true, true, false, false]);
  });
});

describe('the contract', () => {
  const contract = (schema: object, more: object = {}): Contract => ({
    info: { version: '1' }, components: { schemas: { S: schema } },
    paths: { '/a': { get: { operationId: 'a', parameters: [{ name: 'p', in: 'query', schema: { enum: ['x', 'y'] } }], responses: { 200: { content: { j: { schema: { $ref: '#/components/schemas/S' } } } } }, ...more } } },
  }) as unknown as Contract;
  const object = { type: 'object', required: ['a'], properties: { a: { type: 'string' }, b: { type: 'integer' } } };
  const taken = (schema: object) => ({ parameters: [{ name: 'p', in: 'query', schema: { enum: ['x', 'y'] } }], requestBody: { content: { j: { schema: { type: 'object', properties: { s: schema } } } } } });
  const limited = { type: 'string', minLength: 1, maxLength: 9, pattern: '^a' };
  const before = contract(object);
  it.each<[string, Contract, RegExp | undefined]>([
    ['nothing', contract(object), undefined],
    ['a field more', contract({ ...object, properties: { ...object.properties, c: { type: 'string' } } }), undefined],
    ['a field less', contract({ ...object, properties: { a: { type: 'string' } } }), /answer 200\.b is gone/],
    ['another type', contract({ ...object, properties: { ...object.properties, b: { type: 'string' } } }), /b: was integer, is string/],
    ['an optional field', contract({ ...object, required: [] }), /a may be missing now/],
    ['a null', contract({ ...object, properties: { ...object.properties, a: { type: ['string', 'null'] } } }), /a: was string, is string or null/],
    ['a parameter less', contract(object, { parameters: [] }), /query p is gone/],
    ['a value less', contract(object, { parameters: [{ name: 'p', in: 'query', schema: { enum: ['x'] } }] }), /y is not taken any more/],
    ['a parameter that must be', contract(object, { parameters: [{ name: 'p', in: 'query', schema: { enum: ['x', 'y'] } }, { name: 'q', in: 'query', required: true }] }), /query q is required now/],
    ['an answer less', contract(object, { responses: {} }), /answer 200 j is gone/],
    ['another name', contract(object, { operationId: 'b' }), /operationId a is now b/],
    ['a limit more of what is read', contract({ ...object, properties: { ...object.properties, b: { type: 'integer', minimum: 1 } } }), undefined],
    ['a parameter with a limit', contract(object, { parameters: [{ name: 'p', in: 'query', schema: { enum: ['x', 'y'], maxLength: 1 } }] }), /query p: maxLength was any, is 1/],
    ['a parameter of another type', contract(object, { parameters: [{ name: 'p', in: 'query', schema: { type: 'integer', enum: ['x', 'y'] } }] }), /query p: was anything, is integer/],
    ['a path less', { info: { version: '1' }, paths: {} }, /GET \/a is gone/],
  ])('with %s', (_what, after, found) => {
    const changes = breakingChanges(before, after);
    if (found === undefined) expect(changes).toEqual([]);
    else expect(changes.join('\n')).toMatch(found);
  });
  it.each<[string, object, RegExp | undefined]>([
    ['as they were', limited, undefined],
    ['wider', { type: 'string', maxLength: 10 }, undefined],
    ['a lower limit', { ...limited, maxLength: 8 }, /body\.s: maxLength was 9, is 8/],
    ['a higher one', { ...limited, minLength: 2 }, /body\.s: minLength was 1, is 2/],
    ['another pattern', { ...limited, pattern: '^b' }, /body\.s: pattern was \^a, is \^b/],
    ['a format', { ...limited, format: 'uuid' }, /body\.s: format was any, is uuid/],
  ])('with limits of what is sent: %s', (_what, schema, found) => {
    const changes = breakingChanges(contract(object, taken(limited)), contract(object, taken(schema))).join('\n');
    if (found === undefined) expect(changes).toBe('');
    else expect(changes).toMatch(found);
  });
  it.each<[string, object, object, RegExp | undefined]>([
    ['tighter', {}, { maximum: 5, format: 'int64' }, undefined],
    ['a higher limit', { maximum: 5 }, { maximum: 6 }, /b: maximum was 5, is 6/],
    ['no limit', { minimum: 0 }, {}, /b: minimum was 0, is any/],
    ['no format', { format: 'date-time' }, {}, /b: format was date-time, is any/],
  ])('with limits of what is read: %s', (_what, was, is, found) => {
    const answer = (limits: object) => contract({ ...object, properties: { ...object.properties, b: { type: 'integer', ...limits } } });
    const changes = breakingChanges(answer(was), answer(is)).join('\n');
    if (found === undefined) expect(changes).toBe('');
    else expect(changes).toMatch(found);
  });
  it('with fewer other fields that are taken', () => {
    const body = (additionalProperties: unknown) => contract(object, taken({ type: 'object', additionalProperties }));
    expect(breakingChanges(body({ type: 'string' }), body({ type: 'string', maxLength: 3 }))).toEqual([expect.stringContaining('body.s.*: maxLength was any, is 3')]);
    expect(breakingChanges(body(true), body(false))).toEqual([expect.stringContaining('body.s: not every other field is taken any more')]);
    expect(breakingChanges(body(false), body({ type: 'string' }))).toEqual([]);
  });
});
