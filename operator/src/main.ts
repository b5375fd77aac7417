import { randomUUID } from 'node:crypto';
import {
  ArtifactRepository,
  AttemptRepository,
  CaptureRepository,
  DrillRepository,
  EvaluationRepository,
  KubernetesEventRepository,
  SuiteRepository,
  CheckedDatabase,
  confirmSchema,
  waitForSchemaUnlessAway,
} from '@crucible/storage';
import { pino } from 'pino';
import { Registry, collectDefaultMetrics } from 'prom-client';
import { readConfig } from './config.ts';
import type { OperatorConfig } from './config.ts';
import { ControllerMetrics } from './controller/index.ts';
import { controlAt, peerThrough } from './drill/control.ts';
import { openGate } from './drill/gate.ts';
import { DrillManager } from './drill/manager.ts';
import { DrillMetrics } from './drill/metrics.ts';
import { SecurityDrills } from './drill/security-drills.ts';
import { ClusterCaches } from './evaluation/caches.ts';
import { EventKeeper, KeeperMetrics } from './evaluation/event-keeper.ts';
import { DomainMetrics } from './evaluation/metrics.ts';
import { EvaluationOperator } from './evaluation/operator.ts';
import { DatabaseProbe } from './health.ts';
import { EventRecorder, KubeClient, KubeMetrics, LeaderElector, loadAccess } from './kube/index.ts';
import type { LeaderElectorOptions } from './kube/index.ts';
import { aborted, runUntilSignalled } from './process.ts';
import { serveHealth } from './recorder/http.ts';
import { RuntimeOperator } from './runtime/operator.ts';
import { SuiteMetrics } from './suite/metrics.ts';
import { SuiteOperator } from './suite/operator.ts';
import { endTerm, startTerm } from './term.ts';
import type { Operator } from './term.ts';

const LEASE_NAME = 'crucible-operator';
const DEFAULT_NAMESPACE = 'crucible-system';
/** A suite's reconcile creates Evaluations one by one; a few at once keep a large one from holding up the others. */
const SUITE_WORKERS = 2;
/** A watch that has been silent for longer, bookmarks included, is broken. */
const MAX_SYNC_AGE_SECONDS = 180;

/** Runs until the signal aborts; then running reconciles end, the lease is released and everything is closed. */
export async function runOperator(config: OperatorConfig, signal: AbortSignal): Promise<void> {
  const logger = pino({ level: config.logLevel, base: { component: 'operator', instance: config.instance } });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const kubeMetrics = new KubeMetrics(registry);
  const access = await loadAccess({ kubeconfig: config.kubeconfig });
  const client = new KubeClient({ access, logger, metrics: kubeMetrics, userAgent: 'crucible-operator' });
  const database = new CheckedDatabase({
    connectionString: config.databaseUrl,
    applicationName: 'crucible-operator',
    poolSize: config.workers + 4,
    prepared: true,
  });
  const { settings } = config;
  const caches = new ClusterCaches({
    client,
    namespaces: settings.evaluationNamespaces,
    ownNamespace: settings.ownNamespace,
    kueue: settings.kueue,
    logger,
    metrics: kubeMetrics,
  });
  const instance = config.instance;
  const events = new EventRecorder({ client, component: 'crucible-operator', instance, logger, metrics: kubeMetrics });
  const evaluations = new EvaluationRepository(database);
  const suites = new SuiteRepository(database);
  let operator: EvaluationOperator | undefined;
  const metrics = new DomainMetrics(
    registry,
    () => operator?.turns,
    () => caches.evaluations.list(),
  );
  const controllerMetrics = new ControllerMetrics(registry);
  const common = { client, caches, events, settings, logger, controllerMetrics, now: () => Date.now() };
  const captures = new CaptureRepository(database);
  const drill = config.drill.enabled
    ? new DrillManager({
        client,
        caches,
        captures,
        artifacts: new ArtifactRepository(database),
        drills: new DrillRepository(database),
        events,
        settings: config.drill,
        evaluationNamespaces: settings.evaluationNamespaces,
        defaultClass: settings.sandbox.runtimeClassName,
        askControl: controlAt(config.drill.controlUrl),
        askPeer: peerThrough(config.drill.controlUrl),
        metrics: new DrillMetrics(registry),
        logger,
        now: () => Date.now(),
      })
    : undefined;
  const requests =
    drill && new SecurityDrills({ client, drills: caches.drills, manager: drill, logger, now: () => Date.now() });
  const drills = drill === undefined || requests === undefined ? [] : [drill, requests];
  if (drill === undefined) logger.warn('the drill is switched off: nothing shows that sandboxes hold, and every run says so');
  operator = new EvaluationOperator({
    ...common,
    database,
    metrics,
    gate: drill ?? openGate([{ runtimeClass: undefined, rules: [], reason: 'drill.enabled is false' }]),
    evaluations,
    attempts: new AttemptRepository(database),
    captures,
    workers: config.workers,
  });
  const suiteMetrics = new SuiteMetrics(registry, () => caches.suites.list());
  const suiteOperator = new SuiteOperator({ ...common, suites, metrics: suiteMetrics, workers: SUITE_WORKERS });
  const keeper = new EventKeeper({
    client,
    caches,
    namespaces: settings.evaluationNamespaces,
    repository: new KubernetesEventRepository(database),
    metrics: new KeeperMetrics(registry),
    logger,
  });
  const probe = new DatabaseProbe(database);
  const server = await serveHealth({ port: config.port, registry, notReady: () => notReady(caches, probe) });
  const elector = createElector(config, [operator, suiteOperator, new RuntimeOperator(common), keeper, ...drills], {
    client,
    logger,
    metrics: kubeMetrics,
    namespace: config.leaseNamespace ?? access.namespace ?? DEFAULT_NAMESPACE,
    epochFloor: async () => Math.max(await evaluations.maxEpoch(), await suites.maxEpoch()),
  });
  const waiting = { signal, onWait: (reason: string) => logger.info({ reason }, 'waiting for the database') };
  try {
    caches.start();
    probe.start();
    // Without it finalizers are let go and deadlines kept, as by one that was there when it went.
    const schema = await waitForSchemaUnlessAway(database.unchecked, waiting);
    elector.start();
    logger.info(
      { namespaces: settings.evaluationNamespaces, maxConcurrent: settings.maxConcurrent },
      'operator started',
    );
    // One that finds another schema when it is back must not keep the lease from a replica that can use it.
    if (schema === 'away') await confirmSchema(database.unchecked, waiting);
    await aborted(signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    logger.info('stopping');
    await elector.stop();
    probe.stop();
    await events.stop();
    await Promise.allSettled([caches.stop(), server.close(), database.close()]);
    await client.close();
  }
}

function createElector(
  { instance, shutdownSeconds }: OperatorConfig,
  operators: readonly Operator[],
  options: Pick<LeaderElectorOptions, 'client' | 'logger' | 'metrics' | 'namespace' | 'epochFloor'>,
): LeaderElector {
  return new LeaderElector({
    ...options,
    name: LEASE_NAME,
    identity: `${instance}_${randomUUID()}`,
    onStarted: (term) => startTerm(operators, term),
    onStopped: (reason) => endTerm(operators, { reason, shutdownSeconds, logger: options.logger }),
  });
}

function notReady(caches: ClusterCaches, probe: DatabaseProbe): string | undefined {
  if (!caches.synced) return 'the first lists from the API server are not complete';
  if (caches.lastSyncAgeSeconds() > MAX_SYNC_AGE_SECONDS) return 'the API server has been silent for too long';
  return probe.available ? undefined : 'Postgres cannot be reached';
}

async function operate(): Promise<void> {
  const config = readConfig();
  await runUntilSignalled(config.shutdownSeconds, (signal) => runOperator(config, signal));
}

// In the image each command is a bundle of its own beside this one, and only there are they called *.mjs. Kept from the
// bundler by a computed address: bundled together, every module would take itself for the program's main one.
async function dispatch(command: string): Promise<void> {
  const bundled = import.meta.url.endsWith('.mjs');
  const load = (source: string): Promise<{ main?: () => Promise<void> }> =>
    import(new URL(bundled ? `./${command}.mjs` : source, import.meta.url).href) as Promise<{
      main?: () => Promise<void>;
    }>;
  if (command === 'operator') return await operate();
  if (command === 'recorder') return await (await load('./recorder/main.ts')).main?.();
  if (command === 'migrate') return void (await load('../../storage/src/migrate.ts'));
  throw new Error(`unknown command "${command}": operator, recorder or migrate`);
}

if (import.meta.main) {
  dispatch(process.argv[2] ?? 'operator').catch((error: unknown) => {
    pino().fatal({ err: error }, 'the process cannot run');
    process.exit(1);
  });
}
