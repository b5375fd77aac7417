// For tests of every part that stores something: import from '@crucible/storage/testing'.
import { randomUUID } from 'node:crypto';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { migrate } from './migrations.ts';
import type { RolePasswords } from './roles.ts';
import type { S3FileStoreOptions } from './s3-files.ts';
import type { AcceptedEvaluation, FinishCapture, NewAttempt, StreamLedgerInput } from './types.ts';

// Roles belong to the whole server, which test files share: one password for all, or they would lock each other out.
const PASSWORDS: Required<RolePasswords> = {
  crucible_operator: 'test-operator-password',
  crucible_recorder: 'test-recorder-password',
  crucible_api: 'test-api-password',
};

/** DSNs of one database: of its owner, and of each process's role. */
export interface RoleDsns {
  owner: string;
  operator: string;
  recorder: string;
  api: string;
}

/** Migrates an empty database (test/integration/database.ts makes one) and sets the roles' passwords. */
export async function prepareDatabase(owner: string): Promise<RoleDsns> {
  await migrate({ connectionString: owner, rolePasswords: PASSWORDS });
  const as = (role: keyof typeof PASSWORDS): string => {
    const dsn = new URL(owner);
    dsn.username = role;
    dsn.password = PASSWORDS[role];
    return dsn.href;
  };
  return { owner, operator: as('crucible_operator'), recorder: as('crucible_recorder'), api: as('crucible_api') };
}

export { S3FileStore } from './s3-files.ts';

/** What an administrator does: no process of ours may create buckets. */
export async function createBucket(options: Required<Pick<S3FileStoreOptions, 'bucket' | 'region' | 'endpoint' | 'credentials'>>): Promise<void> {
  const { bucket, ...rest } = options;
  const client = new S3Client({ ...rest, forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
}

export function buildEvaluation(overrides: Partial<AcceptedEvaluation> = {}): AcceptedEvaluation {
  return {
    uid: randomUUID(),
    namespace: 'evals',
    namespaceUid: '5f6f3f0c-9f0e-4f39-8f0c-0c5f4b8f1a11',
    name: 'hello',
    generation: 1,
    spec: { runtime: 'python', code: 'print("hello")' },
    labels: { team: 'a' },
    createdAt: new Date('2026-01-02T03:04:05Z'),
    phase: 'Queued',
    epoch: 1,
    ...overrides,
  };
}

export function buildAttempt(evaluationUid: string, overrides: Partial<NewAttempt> = {}): NewAttempt {
  return { evaluationUid, number: 1, jobName: 'hello-01234567-1', image: 'example/python:1', runtimeClass: null, epoch: 1, ...overrides };
}

type FinishOverrides = Omit<Partial<FinishCapture>, 'streams'> & { stdout?: Partial<StreamLedgerInput>; stderr?: Partial<StreamLedgerInput> };

/** A complete, empty capture unless overridden. */
export function buildFinish(key: { evaluationUid: string; podUid: string }, overrides: FinishOverrides = {}): FinishCapture {
  const { stdout, stderr, ...rest } = overrides;
  const empty: StreamLedgerInput = { bytes: 0, lines: 0, gaps: [], truncated: false, complete: true };
  return {
    ...key,
    attempt: 1,
    recorder: 'recorder-0',
    lastSeq: 0,
    streams: { stdout: { ...empty, ...stdout }, stderr: { ...empty, ...stderr } },
    artifacts: [],
    artifactsComplete: true,
    summary: { version: 1, exitCode: 0 },
    receipt: { uid: 10000 },
    complete: true,
    reason: null,
    ...rest,
  };
}
