import { describe, expect, it } from 'vitest';
import { buildApp } from './app.ts';
import { readConfig } from './config.ts';

const base = { CRUCIBLE_DATABASE_URL: 'postgres://crucible_api:secret@db/crucible' };
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
    expect(() => readConfig({ ...tls, CRUCIBLE_DATABASE_URL: 'mysql://root:hunter2@db' })).toThrow(/CRUCIBLE_DATABASE_URL: a postgres:\/\/ URL/);
    expect(() => readConfig({ ...tls, CRUCIBLE_DATABASE_URL: 'mysql://root:hunter2@db' })).not.toThrow(/hunter2/);
  });
});

describe('the app', () => {
  const app = (reason?: string) => buildApp({ https: undefined, logger: { level: 'silent' }, notReady: () => Promise.resolve(reason) });

  it('is ready when nothing is in the way', async () => {
    expect((await app().inject('/readyz')).statusCode).toBe(200);
  });
  it('answers 503 with Retry-After and the reason while it starts', async () => {
    const answer = await app("the database's schema is behind of this version").inject('/readyz');
    expect([answer.statusCode, answer.headers['retry-after'], answer.headers['content-type']]).toEqual([503, '2', expect.stringContaining('application/problem+json')]);
    expect(answer.json()).toMatchObject({ status: 503, title: 'Service Unavailable', detail: expect.stringContaining('behind') as string });
  });
  it('answers an unknown path with a problem document that does not repeat the query', async () => {
    const answer = await app().inject('/api/nothing?token=secret');
    expect(answer.statusCode).toBe(404);
    expect(answer.json()).toMatchObject({ status: 404, detail: 'there is nothing at GET /api/nothing' });
  });
  it('answers a broken body with 4xx', async () => {
    const a = app();
    a.post('/echo', (request) => request.body);
    const answer = await a.inject({ method: 'POST', url: '/echo', headers: { 'content-type': 'application/json' }, payload: '{' });
    expect(answer.statusCode).toBe(400);
    expect(answer.headers['content-type']).toContain('application/problem+json');
  });
  it('keeps what went wrong inside to the log', async () => {
    const a = app();
    a.get('/boom', () => {
      throw new Error('password=hunter2');
    });
    const answer = await a.inject('/boom');
    expect(answer.statusCode).toBe(500);
    expect(answer.body).not.toContain('hunter2');
  });
});
