import * as z from 'zod';
import type { AcceptedRisk } from './drill/gate.ts';
import type { DrillSettings } from './drill/settings.ts';
import { databaseUrl, list, logLevel, port, readEnvironment } from './environment.ts';
import type { Settings } from './evaluation/settings.ts';

const integer = (fallback: number, min: number, max: number) =>
  z.coerce.number().int().min(min).max(max).default(fallback);
const seconds = (fallback: number, min = 1) => integer(fallback, min, 86_400);
const names = list(z.string().regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/, 'names, separated by commas')).default([]);
const NAMESPACE_LIMIT = /^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)=([1-9][0-9]{0,5})$/;
/** `evals=10,team-a=5` */
const namespaceLimits = list(z.string().regex(NAMESPACE_LIMIT, 'namespace=number, separated by commas'))
  .default([])
  .transform((entries) => {
    const pairs = entries.map((entry) => NAMESPACE_LIMIT.exec(entry)!);
    return Object.fromEntries(pairs.map(([, name = '', , limit]) => [name, Number(limit)]));
  });
const optional = z.string().optional();
const MI = 1024 * 1024;
// Below it are the system's own users, above it uids that user namespaces may map elsewhere.
const uid = (fallback: number) => integer(fallback, 10_000, 2_000_000_000);

// JSON, because reasons are sentences.
const acceptedRisks = z
  .string()
  .default('[]')
  .transform((text, context): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      context.addIssue({ code: 'custom', message: 'not JSON' });
      return z.NEVER;
    }
  })
  .pipe(
    z.array(
      z.strictObject({
        /** Empty: the cluster's default runtime. */
        runtimeClass: z.string().max(253).default(''),
        rules: z.array(z.int().min(1).max(31)).min(1).max(31),
        reason: z.string().min(1, 'say why').max(256),
      }),
    ),
  );

const schema = z
  .object({
    CRUCIBLE_DATABASE_URL: databaseUrl,
    CRUCIBLE_NAMESPACES: names,
    CRUCIBLE_LAUNCHER_IMAGE: z.string().min(1, 'the image that brings the launcher into other images'),
    CRUCIBLE_MAX_CONCURRENT: integer(20, 1, 100_000),
    /** 0: as many as may run. */
    CRUCIBLE_MAX_UNCAPTURED: integer(0, 0, 100_000),
    CRUCIBLE_NAMESPACE_LIMITS: namespaceLimits,
    CRUCIBLE_KUEUE: z.enum(['true', 'false']).default('false'),
    CRUCIBLE_WORKERS: integer(8, 1, 256),
    CRUCIBLE_JOB_TTL_SECONDS: seconds(300, 0),
    CRUCIBLE_RUNTIME_CLASS: optional,
    CRUCIBLE_SANDBOX_SERVICE_ACCOUNT: z.string().min(1).default('crucible-sandbox'),
    CRUCIBLE_SANDBOX_PULL_POLICY: z.enum(['IfNotPresent', 'Always', 'Never']).default('IfNotPresent'),
    CRUCIBLE_SANDBOX_PULL_SECRETS: names,
    CRUCIBLE_SANDBOX_UID_FIRST: uid(100_000),
    CRUCIBLE_SANDBOX_UID_LAST: uid(165_535),
    CRUCIBLE_SANDBOX_CPU_REQUEST_PERCENT: integer(10, 1, 100),
    CRUCIBLE_SANDBOX_MEMORY_OVERHEAD_BYTES: integer(32 * MI, 8 * MI, 4096 * MI),
    CRUCIBLE_SANDBOX_TMP_BYTES: integer(16 * MI, MI, 4096 * MI),
    CRUCIBLE_SANDBOX_SHM_BYTES: integer(16 * MI, MI, 4096 * MI),
    CRUCIBLE_SANDBOX_EPHEMERAL_STORAGE_BYTES: integer(64 * MI, 16 * MI, 4096 * MI),
    CRUCIBLE_SANDBOX_PROCESSES: integer(128, 32, 32_768),
    CRUCIBLE_SANDBOX_OPEN_FILES: integer(1024, 64, 1_048_576),
    CRUCIBLE_SANDBOX_GRACE_SECONDS: integer(5, 1, 60),
    CRUCIBLE_SANDBOX_STRICT_GROUPS: z.enum(['true', 'false']).default('true'),
    CRUCIBLE_START_UP_SECONDS: seconds(300),
    CRUCIBLE_IMAGE_PULL_SECONDS: seconds(60),
    CRUCIBLE_UNSCHEDULABLE_SECONDS: seconds(300),
    CRUCIBLE_QUOTA_SECONDS: seconds(300),
    CRUCIBLE_REFUSED_SECONDS: seconds(15),
    CRUCIBLE_LOST_CAPTURE_SECONDS: seconds(60),
    CRUCIBLE_DRILL: z.enum(['on', 'off']).default('on'),
    CRUCIBLE_DRILL_NAMESPACE: optional,
    CRUCIBLE_DRILL_RUNTIME: z.string().min(1).default('crucible-drill'),
    CRUCIBLE_DRILL_CONTROL_URL: z.url({ protocol: /^http$/ }).optional(),
    CRUCIBLE_DRILL_RETRY_SECONDS: seconds(20, 1),
    CRUCIBLE_DRILL_FULL_SECONDS: integer(86_400, 0, 30 * 86_400),
    CRUCIBLE_DRILL_WATCH: z.enum(['true', 'false']).default('true'),
    CRUCIBLE_DRILL_METADATA: list(z.string().regex(/^[0-9a-fA-F.:]+$/, 'addresses, separated by commas')).default([]),
    CRUCIBLE_ACCEPTED_RISKS: acceptedRisks,
    CRUCIBLE_SHUTDOWN_SECONDS: integer(20, 1, 600),
    CRUCIBLE_KUBECONFIG: optional,
    /** Of the lease; in a cluster the pod's own. */
    CRUCIBLE_LEASE_NAMESPACE: optional,
    HOSTNAME: z.string().min(1).default('operator'),
    LOG_LEVEL: logLevel,
    PORT: port,
  })
  .refine((values) => values.CRUCIBLE_SANDBOX_UID_FIRST <= values.CRUCIBLE_SANDBOX_UID_LAST, {
    path: ['CRUCIBLE_SANDBOX_UID_LAST'],
    message: 'may not be below CRUCIBLE_SANDBOX_UID_FIRST',
  });

export interface OperatorConfig {
  readonly databaseUrl: string;
  readonly kubeconfig: string | undefined;
  readonly leaseNamespace: string | undefined;
  readonly instance: string;
  readonly workers: number;
  readonly shutdownSeconds: number;
  readonly logLevel: string;
  readonly port: number;
  readonly settings: Settings;
  readonly drill: DrillSettings;
}

/** The only reader of the operator's environment. Throws with every mistake in one message, without values. */
export function readConfig(env: Readonly<Record<string, string | undefined>> = process.env): OperatorConfig {
  // A chart writes an empty string where nothing is set.
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const values = readEnvironment(schema, given, 'operator');
  return {
    databaseUrl: values.CRUCIBLE_DATABASE_URL,
    kubeconfig: values.CRUCIBLE_KUBECONFIG,
    leaseNamespace: values.CRUCIBLE_LEASE_NAMESPACE,
    instance: values.HOSTNAME,
    workers: values.CRUCIBLE_WORKERS,
    shutdownSeconds: values.CRUCIBLE_SHUTDOWN_SECONDS,
    logLevel: values.LOG_LEVEL,
    port: values.PORT,
    settings: settings(values),
    drill: drillSettings(values),
  };
}

function drillSettings(values: z.output<typeof schema>): DrillSettings {
  return {
    enabled: values.CRUCIBLE_DRILL === 'on',
    namespace: values.CRUCIBLE_DRILL_NAMESPACE,
    runtime: values.CRUCIBLE_DRILL_RUNTIME,
    controlUrl: values.CRUCIBLE_DRILL_CONTROL_URL,
    retrySeconds: values.CRUCIBLE_DRILL_RETRY_SECONDS,
    fullEverySeconds: values.CRUCIBLE_DRILL_FULL_SECONDS,
    watch: values.CRUCIBLE_DRILL_WATCH === 'true',
    metadataAddresses: values.CRUCIBLE_DRILL_METADATA,
    acceptedRisks: values.CRUCIBLE_ACCEPTED_RISKS.map(
      ({ runtimeClass, rules, reason }): AcceptedRisk => ({ runtimeClass: runtimeClass || undefined, rules, reason }),
    ),
  };
}

function settings(values: z.output<typeof schema>): Settings {
  return {
    evaluationNamespaces: values.CRUCIBLE_NAMESPACES,
    maxConcurrent: values.CRUCIBLE_MAX_CONCURRENT,
    namespaceLimits: values.CRUCIBLE_NAMESPACE_LIMITS,
    maxUncaptured: values.CRUCIBLE_MAX_UNCAPTURED || values.CRUCIBLE_MAX_CONCURRENT,
    ownNamespace: values.CRUCIBLE_LEASE_NAMESPACE,
    kueue: values.CRUCIBLE_KUEUE === 'true',
    jobTtlSeconds: values.CRUCIBLE_JOB_TTL_SECONDS,
    sandbox: {
      runtimeClassName: values.CRUCIBLE_RUNTIME_CLASS,
      launcherImage: values.CRUCIBLE_LAUNCHER_IMAGE,
      serviceAccountName: values.CRUCIBLE_SANDBOX_SERVICE_ACCOUNT,
      imagePullPolicy: values.CRUCIBLE_SANDBOX_PULL_POLICY,
      imagePullSecrets: values.CRUCIBLE_SANDBOX_PULL_SECRETS,
      uids: { first: values.CRUCIBLE_SANDBOX_UID_FIRST, last: values.CRUCIBLE_SANDBOX_UID_LAST },
      cpuRequestPercent: values.CRUCIBLE_SANDBOX_CPU_REQUEST_PERCENT,
      memoryOverheadBytes: values.CRUCIBLE_SANDBOX_MEMORY_OVERHEAD_BYTES,
      tmpBytes: values.CRUCIBLE_SANDBOX_TMP_BYTES,
      shmBytes: values.CRUCIBLE_SANDBOX_SHM_BYTES,
      ephemeralStorageBytes: values.CRUCIBLE_SANDBOX_EPHEMERAL_STORAGE_BYTES,
      processes: values.CRUCIBLE_SANDBOX_PROCESSES,
      openFiles: values.CRUCIBLE_SANDBOX_OPEN_FILES,
      graceSeconds: values.CRUCIBLE_SANDBOX_GRACE_SECONDS,
      strictSupplementalGroups: values.CRUCIBLE_SANDBOX_STRICT_GROUPS === 'true',
    },
    patience: {
      startUp: values.CRUCIBLE_START_UP_SECONDS,
      imagePull: values.CRUCIBLE_IMAGE_PULL_SECONDS,
      unschedulable: values.CRUCIBLE_UNSCHEDULABLE_SECONDS,
      quota: values.CRUCIBLE_QUOTA_SECONDS,
      refused: values.CRUCIBLE_REFUSED_SECONDS,
      lostCapture: values.CRUCIBLE_LOST_CAPTURE_SECONDS,
    },
  };
}
