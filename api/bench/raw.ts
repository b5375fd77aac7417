// What the API is measured against: bare Fastify routes with the same statements on the same database, and nothing else: no
// caller, no rights, no limits, no checks of what comes in and goes out.
import { readFileSync } from 'node:fs';
import { READS_BY_KEY, listEvaluations, readComplete, readEvaluation, readOutputRange, readState } from '@crucible/storage';
import { fastify } from 'fastify';
import { Pool, types } from 'pg';

const env = process.env as Record<'DSN' | 'CERT' | 'KEY' | 'PORT' | 'NAMESPACE_UID', string>;
types.setTypeParser(20, Number);
const pool = new Pool({ connectionString: env.DSN, max: 10 });
// Prepared as the API's are: with plans made anew for each request, as a bare server would have it, Postgres takes most of the time.
const names = new Map([...READS_BY_KEY].map((text, index) => [text, `s${index}`]));
const db = {
  query: async (text: string, values: readonly unknown[] = []) => {
    const { rows, rowCount } = await pool.query({ text, values: [...values], ...(names.has(text) && { name: names.get(text) }) });
    return { rows: rows as never[], rowCount: rowCount ?? 0 };
  },
};
const scope = [env.NAMESPACE_UID];
const id = (request: { params: unknown }): string => (request.params as { id: string }).id;

const app = fastify({ https: { cert: readFileSync(env.CERT), key: readFileSync(env.KEY) } });
app.get('/healthz', async () => ({ status: 'ok' }));
app.get('/api/eval-status/:id', (request) => readState(db, id(request), scope));
app.get('/api/evaluations', () => listEvaluations(db, scope, { limit: 50 }));
app.get('/api/evaluations/:id', (request) => readEvaluation(db, id(request), scope));
app.get('/api/evaluations/:id/complete', (request) => readComplete(db, {}, id(request), scope));
app.get('/api/evaluations/:id/output/stdout', async (request, reply) => {
  const range = await readOutputRange(db, { uid: id(request) }, 'stdout', scope);
  return reply.type('text/plain').send(range?.data);
});
// What 2,000 connections over TLS cost by themselves.
app.get('/api/events', (_, reply) => {
  reply.hijack();
  reply.raw.writeHead(200, { 'content-type': 'text/event-stream' }).write('retry: 1000\n\n');
});
await app.listen({ host: '127.0.0.1', port: Number(env.PORT) });
