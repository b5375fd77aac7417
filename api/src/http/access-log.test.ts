import { fastify } from 'fastify';
import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import type { App } from '../routes/route.ts';
import { HttpMetrics, installAccessLog } from './access-log.ts';

it('the time of an event stream is not one of an answer; that it was refused is', async () => {
  const registry = new Registry();
  const app = fastify();
  installAccessLog(app as unknown as App, new HttpMetrics(registry, () => 0));
  const stream = { config: { access: 'caller', limit: 'stream' } } as const;
  app.get('/answer', async () => 'yes');
  app.get('/refused', stream, (_, reply) => reply.code(429).send('no'));
  app.get('/stream', stream, (_, reply) => {
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 1\n\n');
  });
  const address = await app.listen({ host: '127.0.0.1', port: 0 });
  for (const url of ['/answer', '/refused', '/stream']) await (await fetch(address + url)).text();
  await app.close();
  const counted = (await registry.metrics()).split('\n').filter((line) => line.startsWith('crucible_api_request_duration_seconds_count'));
  expect(counted.map((line) => /route="(.*?)",status="(\d+)"/.exec(line)?.slice(1))).toEqual([['/answer', '200'], ['/refused', '429']]);
});
