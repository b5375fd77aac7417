import { createServer } from 'node:http';
import type { Server } from 'node:https';
import { KubeClient, KubeMetrics, loadAccess, withoutCredentials } from '@crucible/operator/kube';
import { EventFeed, OutputWatch, READS_BY_KEY, connect, connectRedis, openFileStore, openSigningKey } from '@crucible/storage';
import { pino, type Logger } from 'pino';
import { Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import { buildApp } from './app.ts';
import { Authenticator } from './auth/authenticator.ts';
import { Authorizer } from './auth/authorizer.ts';
import { SessionSealer } from './auth/session.ts';
import { Cluster } from './cluster.ts';
import { readConfig, type ApiConfig } from './config.ts';
import { HttpMetrics } from './http/access-log.ts';
import { RequestLimiter } from './http/rate-limit.ts';
import { TlsReloader, readTlsPair } from './http/tls.ts';
import { Streams } from './live/sse.ts';
import { Readiness } from './readiness.ts';
import type { Services } from './services.ts';
import { Snapshots } from './snapshots.ts';

const POOL_SIZE = 10;
const LOG_BYTES = 16_000;
const LOG_MILLISECONDS = 100;

/** Serves until the signal aborts; then requests under way end, streams are told to come back, and everything is closed. */
export async function runApi(config: ApiConfig, signal: AbortSignal): Promise<void> {
  const logger = createLogger(config);
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const readiness = new Readiness();
  const services = await createServices(config, logger, registry, readiness);
  const tls = config.tls && (await readTlsPair(config.tls));
  const metrics = new HttpMetrics(registry, () => services.streams.size);
  const app = await buildApp(services, { https: tls, logger, metrics, trustedProxies: config.trustedProxies, checkAnswers: config.checkAnswers });
  const metricsServer = await serveMetrics(config.metrics, registry);
  await app.listen({ host: config.host, port: config.port });
  const reloader = config.tls && tls && new TlsReloader(config.tls, tls, app.server as unknown as Server, logger, config.tlsPollSeconds * 1000);
  if (reloader !== undefined) {
    const help = 'When the certificate that is served ends.';
    new Gauge({ name: 'crucible_api_certificate_expiry_timestamp_seconds', help, registers: [registry], collect() { this.set(reloader.validTo); } });
  }
  try {
    const { database, cluster, feed } = services;
    const ready = readiness.prepare({ database, cluster, feed, log: logger }, signal);
    ready.catch((error: unknown) => !signal.aborted && logger.error({ err: error }, 'this replica cannot become ready'));
    await new Promise<void>((resolve) => (signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), { once: true })));
    logger.info('stopping');
  } finally {
    readiness.drain();
    reloader?.stop();
    await app.close();
    await close(services, metricsServer);
  }
}

/** Several lines in one write, or the access log is a system call for each request. What is left is written at exit. */
function createLogger({ logLevel, instance }: ApiConfig): Logger {
  const output = pino.destination({ dest: 1, sync: false, minLength: LOG_BYTES, periodicFlush: LOG_MILLISECONDS });
  return pino({ level: logLevel, base: { component: 'api', instance } }, output);
}

async function createServices(config: ApiConfig, logger: Logger, registry: Registry, readiness: Readiness): Promise<Services> {
  const now = Date.now;
  const database = connect({ connectionString: config.databaseUrl, applicationName: 'crucible-api', poolSize: POOL_SIZE, prepared: READS_BY_KEY });
  const redisFor = (connectionName: string, batch = false) =>
    config.redisUrl === undefined ? undefined : connectRedis({ url: config.redisUrl, connectionName, batch });
  // One for commands; the other two wait for news, each on a connection of its own.
  const [redis, forEvents, forOutput] = [redisFor('crucible-api', true), redisFor('crucible-api events'), redisFor('crucible-api output')];
  const cluster = await connectCluster(config, logger, registry);
  const limits = { total: config.operator.maxConcurrent, namespaces: config.operator.namespaceLimits };
  const snapshots = new Snapshots({ database, redis, configured: config.operator.evaluationNamespaces, limits, now });
  const onError = (error: unknown): void => logger.warn({ err: error }, 'events cannot be read at the moment');
  return {
    database, redis, cluster, snapshots, now,
    feed: new EventFeed({ database, redis: forEvents, keep: config.keptEvents, onError }),
    watch: new OutputWatch({ database, redis: forOutput }),
    listeners: [forEvents, forOutput].filter((one) => one !== undefined),
    files: await openFileStore(config.files.location, { credentials: config.files.credentials() }),
    signingKey: config.signingKeyFile === undefined ? undefined : await openSigningKey(config.signingKeyFile),
    authenticator: new Authenticator(cluster, now),
    authorizer: new Authorizer(cluster, snapshots, now),
    sealer: new SessionSealer(config.sessionSecrets, now),
    rateLimiter: new RequestLimiter(redis, config.rateLimits),
    streams: new Streams({ total: config.maxStreams, each: config.maxStreamsPerCaller }),
    operator: config.operator,
    notReady: readiness.notReady,
  };
}

async function connectCluster(config: ApiConfig, logger: Logger, registry: Registry): Promise<Cluster> {
  const access = await loadAccess({ kubeconfig: config.kubeconfig, serviceAccountRoot: config.serviceAccountRoot });
  const common = { logger, metrics: new KubeMetrics(registry), userAgent: 'crucible-api' };
  return new Cluster(new KubeClient({ ...common, access }), new KubeClient({ ...common, access: withoutCredentials(access) }));
}

/** On a port of its own, which only the monitoring reaches. */
async function serveMetrics({ host, port }: ApiConfig['metrics'], registry: Registry): Promise<{ close(): void }> {
  const server = createServer((request, response) => {
    if (request.method !== 'GET' || request.url?.split('?')[0] !== '/metrics') return void response.writeHead(404).end();
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType, 'cache-control': 'no-store' }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
  return server;
}

async function close({ feed, watch, cluster, database, redis, listeners }: Services, metricsServer: { close(): void }): Promise<void> {
  metricsServer.close();
  await Promise.all([feed.stop(), watch.stop()]);
  for (const connection of [redis, ...listeners]) connection?.disconnect();
  await Promise.allSettled([cluster.close(), database.close()]);
}

async function main(): Promise<void> {
  const config = readConfig();
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => {
      stop.abort();
      setTimeout(() => process.exit(1), config.shutdownSeconds * 1000).unref();
    });
  }
  await runApi(config, stop.signal);
}

if (import.meta.main) {
  main().then(
    () => process.exit(0),
    (error: unknown) => {
      console.error(`crucible-api: ${error instanceof Error ? error.message : String(error)}`);
      process.exit(1);
    },
  );
}
