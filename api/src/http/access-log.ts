import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { App } from '../routes/route.ts';

/** By route, never by path: an id as a label would make a series for each. */
export class HttpMetrics {
  readonly seconds: Histogram<'method' | 'route' | 'status'>;
  readonly refused: Counter<'reason'>;

  constructor(registry: Registry, streams: () => number) {
    const registers = [registry];
    this.seconds = new Histogram({
      name: 'crucible_api_request_duration_seconds', help: 'Time to answer, event streams aside.', registers,
      labelNames: ['method', 'route', 'status'], buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
    });
    this.refused = new Counter({ name: 'crucible_api_refused_total', help: 'Requests refused, by reason.', registers, labelNames: ['reason'] });
    for (const reason of Object.values(REFUSED)) this.refused.inc({ reason }, 0);
    new Gauge({ name: 'crucible_api_event_streams', help: 'Open event streams.', registers, collect() { this.set(streams()); } });
  }
}

const REFUSED: Record<number, string> = { 401: 'unauthenticated', 403: 'forbidden', 429: 'rate', 503: 'unavailable' };

/** One line for each request: no query, no header, no body, so that no token can be in it. */
export function installAccessLog(app: App, metrics: HttpMetrics | undefined): void {
  app.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url ?? 'none';
    const { method } = request;
    const status = reply.raw.statusCode;
    const milliseconds = reply.elapsedTime;
    const stream = request.routeOptions.config?.limit === 'stream' && status === 200;
    if (!stream) metrics?.seconds.observe({ method, route, status: String(status) }, milliseconds / 1000);
    const reason = REFUSED[status];
    if (reason !== undefined) metrics?.refused.inc({ reason });
    const fields = { requestId: request.id, method, route, status, milliseconds: Math.round(milliseconds), client: request.ip, user: request.caller?.identity.username };
    request.log[request.routeOptions.config?.access === 'public' ? 'debug' : 'info'](fields, 'request');
    done();
  });
}
