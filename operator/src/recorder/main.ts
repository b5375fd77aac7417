import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LABELS } from '@crucible/crds';
import {
  AnnouncingCaptures,
  AttemptRepository,
  connect,
  connectRedis,
  ArtifactRepository,
  openFileStore,
  OutputAnnouncer,
  waitForSchema,
  type CaptureRepository,
  type Database,
} from '@crucible/storage';
import { pino, type Logger } from 'pino';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { InformerSet, KubeClient, KubeMetrics, loadAccess, PODS, systemClock } from '../kube/index.ts';
import { aborted, runUntilSignalled } from '../process.ts';
import { ARTIFACT_LIMITS } from './artifacts.ts';
import { MemoryBudget } from './budget.ts';
import { Claims } from './claims.ts';
import { readConfig, type RecorderConfig } from './config.ts';
import { PATIENCE, type LogReader, type RecorderContext } from './context.ts';
import { DatabaseHealth } from './database.ts';
import { serveHealth } from './http.ts';
import { keepHouse, type HousekeepingOptions } from './housekeeping.ts';
import { RecorderMetrics } from './metrics.ts';
import { slimPod, type SandboxPod } from './pods.ts';
import { Recorder } from './recorder.ts';
import { startRelay, type RunningRelay } from './relay.ts';
import { Slots } from './slots.ts';
import { Spool } from './spool.ts';

/** For captures, however many; what must be on time has its own. */
const CAPTURE_CONNECTIONS = 6;
const OWN_CONNECTIONS = 2;
const MAX_OPENINGS = 32;
const MAX_DRAINS = 4;
/** Of CAPTURE_CONNECTIONS: the others are for output. */
const MAX_CLOSINGS = 2;
/** Unfinished artifacts of all followers together; a final read may hold its own 8 MiB. */
const ARTIFACT_BUDGET_BYTES = 32 * 1024 * 1024;
/** Output that waits for Postgres beyond the 64 KiB that each capture may hold. */
const WRITE_BUDGET_BYTES = 16 * 1024 * 1024;
/** A watch that has been silent for longer, bookmarks included, is broken. */
const MAX_SYNC_AGE_SECONDS = 180;

/** Runs until the signal aborts; then everything read so far is stored or spooled. */
export async function runRecorder(config: RecorderConfig, signal: AbortSignal): Promise<void> {
  const logger = pino({ level: config.logLevel, base: { component: 'recorder', recorder: config.id } });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const common = { connectionString: config.databaseUrl, applicationName: `crucible-recorder ${config.id}`, prepared: true };
  const database = connect({ ...common, poolSize: CAPTURE_CONNECTIONS, patient: true });
  // Its probe, the claims and housekeeping do not queue behind a thousand captures.
  const own = connect({ ...common, poolSize: OWN_CONNECTIONS });
  const health = new DatabaseHealth(own, systemClock);
  const metrics = new RecorderMetrics(registry, () => health.available);
  const client = new KubeClient({
    access: await loadAccess({ kubeconfig: config.kubeconfig }),
    logger,
    metrics: new KubeMetrics(registry),
    userAgent: 'crucible-recorder',
  });
  const pods = new InformerSet<SandboxPod>({
    client,
    resource: PODS,
    namespaces: config.namespaces,
    labelSelector: `${LABELS.sandbox}=true`,
    transform: slimPod,
    logger,
  });
  const redis = config.redisUrl === undefined ? undefined : connectRedis({ url: config.redisUrl, connectionName: 'crucible-recorder' });
  const announcer = new OutputAnnouncer(redis);
  metrics.countAnnouncements(() => announcer.announced);
  let starting = true;
  let relay: RunningRelay | undefined;
  const notReady = (): string | undefined => {
    if (starting) return 'starting';
    if (!pods.synced || pods.lastSyncAgeSeconds() > MAX_SYNC_AGE_SECONDS)
      return 'the pods of the evaluation namespaces are not in view';
    return health.available ? undefined : 'Postgres is away; output goes to the spool';
  };
  const server = await serveHealth({ port: config.port, registry, notReady });
  try {
    await waitForSchema(database, { signal, onWait: (reason) => logger.info({ reason }, 'waiting for the database') });
    const context = await createContext({ config, logger, metrics, database, own, health, logs: client, announcer });
    const recorder = new Recorder({ context, pods, unfinished: context.captures });
    recorder.start();
    const { storage } = config;
    const house = keepHouse({ config: storage, database: own, files: context.files, metrics, logger, clock: systemClock }, signal);
    relay = startRelay({ config, registry, logger });
    starting = false;
    logger.info({ namespaces: config.namespaces, maxFollows: config.maxFollows }, 'recording');
    await aborted(signal);
    logger.info('stopping');
    await Promise.all([recorder.stop(), house]);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    health.stop();
    redis?.disconnect();
    await Promise.allSettled([server.close(), client.close(), database.close(), own.close(), relay?.stop()]);
  }
}

type Made = RecorderContext & { readonly captures: CaptureRepository; readonly files: HousekeepingOptions['files'] };

interface Parts {
  readonly config: RecorderConfig;
  readonly logger: Logger;
  readonly metrics: RecorderMetrics;
  readonly database: Database;
  /** For what must not wait behind captures. Default: the same. */
  readonly own?: Database;
  readonly health: DatabaseHealth;
  readonly logs: LogReader;
  /** Default: nobody is told of output. */
  readonly announcer?: OutputAnnouncer;
}

export async function createContext({
  config,
  logger,
  metrics,
  database,
  own = database,
  health,
  logs,
  announcer = new OutputAnnouncer(undefined),
}: Parts): Promise<Made> {
  const spool = new Spool(join(config.dataDir, 'spool'), config.maxSpoolBytes);
  await spool.open();
  const { storage } = config;
  const location = storage.location ?? { type: 'directory' as const, directory: join(config.dataDir, 'files') };
  if (location.type === 'directory') await mkdir(location.directory, { recursive: true, mode: 0o750 });
  const artifacts = new ArtifactRepository(database);
  return {
    logs,
    attempts: new AttemptRepository(database),
    captures: new AnnouncingCaptures(database, announcer),
    files: await openFileStore(location, { credentials: storage.credentials() }),
    quota: {
      run: { ...ARTIFACT_LIMITS, maxTotalBytes: storage.maxRunBytes, maxFiles: storage.maxRunFiles },
      maxNamespaceBytes: storage.maxNamespaceBytes,
      usedBytes: (evaluationUid) => artifacts.usedBytes(evaluationUid),
    },
    claims: new Claims(config.id, database, own),
    database: health,
    spool,
    follows: new Slots(config.maxFollows),
    finals: new Slots(config.maxFinalReads),
    openings: new Slots(MAX_OPENINGS),
    drains: new Slots(MAX_DRAINS),
    closings: new Slots(MAX_CLOSINGS),
    artifactBudget: new MemoryBudget(ARTIFACT_BUDGET_BYTES),
    writeBudget: new MemoryBudget(WRITE_BUDGET_BYTES),
    metrics,
    logger,
    clock: systemClock,
    random: Math.random,
    patience: PATIENCE,
  };
}

export async function main(): Promise<void> {
  const config = readConfig();
  await runUntilSignalled(config.shutdownSeconds, (signal) => runRecorder(config, signal));
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    pino().fatal({ err: error }, 'the recorder cannot run');
    process.exit(1);
  });
}
