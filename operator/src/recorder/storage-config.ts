import { readFileSync } from 'node:fs';
import { parseFileStoreUrl, type FileStoreCredentials, type FileStoreLocation, type RetentionClass } from '@crucible/storage';
import * as z from 'zod';
import { ARTIFACT_LIMITS } from './artifacts.ts';

const path = z.string().regex(/^(\/.*)?$/, 'an absolute path').default('');
const days = z.coerce.number().int().min(0).max(36_500).default(0);

/** The part of the recorder's environment that is about what is kept, where, and for how long. */
export const storageVariables = {
  /** Empty: a directory of the data directory. */
  CRUCIBLE_FILE_STORE_URL: z.string().default('').transform(parseLocation),
  CRUCIBLE_FILE_STORE_ACCESS_KEY_FILE: path,
  CRUCIBLE_FILE_STORE_SECRET_KEY_FILE: path,
  CRUCIBLE_ARTIFACT_MAX_RUN_BYTES: z.coerce
    .number()
    .int()
    .min(0)
    .max(ARTIFACT_LIMITS.maxTotalBytes)
    .default(ARTIFACT_LIMITS.maxTotalBytes),
  CRUCIBLE_ARTIFACT_MAX_RUN_FILES: z.coerce
    .number()
    .int()
    .min(0)
    .max(ARTIFACT_LIMITS.maxFiles)
    .default(ARTIFACT_LIMITS.maxFiles),
  /** 0: no limit. */
  CRUCIBLE_ARTIFACT_MAX_NAMESPACE_BYTES: z.coerce.number().int().min(0).default(0),
  /** 0: no sweep. Not below what a put again counts as new for (an hour in S3). */
  CRUCIBLE_ORPHAN_GRACE_HOURS: z.coerce
    .number()
    .int()
    .refine((hours) => hours === 0 || hours >= 2, '0 or at least 2')
    .default(24),
  /** 0: kept for ever. */
  CRUCIBLE_RETENTION_OUTPUT_DAYS: days,
  CRUCIBLE_RETENTION_ARTIFACTS_DAYS: days,
  CRUCIBLE_RETENTION_RECORDS_DAYS: days,
  CRUCIBLE_HOUSEKEEPING_SECONDS: z.coerce.number().int().min(1).max(86_400).default(3600),
};

type StorageValues = z.output<z.ZodObject<typeof storageVariables>>;

export interface StorageConfig {
  /** undefined: `files` in the data directory. */
  readonly location: FileStoreLocation | undefined;
  /** Read when the store is opened, so that no configuration that is logged or compared holds a secret. */
  readonly credentials: () => FileStoreCredentials | undefined;
  readonly maxRunBytes: number;
  readonly maxRunFiles: number;
  readonly maxNamespaceBytes: number | undefined;
  readonly orphanGraceHours: number;
  readonly retentionDays: Readonly<Record<RetentionClass, number>>;
  readonly housekeepingSeconds: number;
}

export function storageConfig(values: StorageValues): StorageConfig {
  return {
    location: values.CRUCIBLE_FILE_STORE_URL,
    credentials: () => readCredentials(values),
    maxRunBytes: values.CRUCIBLE_ARTIFACT_MAX_RUN_BYTES,
    maxRunFiles: values.CRUCIBLE_ARTIFACT_MAX_RUN_FILES,
    maxNamespaceBytes: values.CRUCIBLE_ARTIFACT_MAX_NAMESPACE_BYTES || undefined,
    orphanGraceHours: values.CRUCIBLE_ORPHAN_GRACE_HOURS,
    retentionDays: {
      output: values.CRUCIBLE_RETENTION_OUTPUT_DAYS,
      artifacts: values.CRUCIBLE_RETENTION_ARTIFACTS_DAYS,
      records: values.CRUCIBLE_RETENTION_RECORDS_DAYS,
    },
    housekeepingSeconds: values.CRUCIBLE_HOUSEKEEPING_SECONDS,
  };
}

/** What an empty environment means. */
export const DEFAULT_STORAGE: StorageConfig = storageConfig(z.object(storageVariables).parse({}));

function parseLocation(value: string, context: z.RefinementCtx<string>): FileStoreLocation | undefined {
  if (value === '') return undefined;
  try {
    return parseFileStoreUrl(value);
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
}

function readCredentials(values: StorageValues): FileStoreCredentials | undefined {
  const { CRUCIBLE_FILE_STORE_ACCESS_KEY_FILE: access, CRUCIBLE_FILE_STORE_SECRET_KEY_FILE: secret } = values;
  if (access === '' || secret === '') return undefined;
  return { accessKeyId: readFileSync(access, 'utf8').trim(), secretAccessKey: readFileSync(secret, 'utf8').trim() };
}
