import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { serveHealth } from './http.ts';
import { RecorderMetrics } from './metrics.ts';

it('answers health, readiness with its reason, and zero-initialised metrics', async () => {
  const registry = new Registry();
  new RecorderMetrics(registry);
  let reason: string | undefined = 'starting';
  const server = await serveHealth({ port: 0, registry, notReady: () => reason });
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`);
    return { status: response.status, body: await response.text() };
  };
  try {
    expect(await get('/healthz')).toMatchObject({ status: 200 });
    expect(await get('/readyz')).toEqual({ status: 503, body: 'starting\n' });
    reason = undefined;
    expect(await get('/readyz')).toMatchObject({ status: 200 });
    expect(await get('/else')).toMatchObject({ status: 404 });
    const { body } = await get('/metrics');
    expect(body).toContain('crucible_recorder_captures_total{result="incomplete"} 0');
    expect(body).toContain('crucible_recorder_bytes_total{stream="stdout"} 0');
    for (const line of body.split('\n')) expect(line).toMatch(/^($|#|crucible_recorder_)/);
  } finally {
    await server.close();
  }
});
