import { DirectoryFileStore } from '@crucible/storage';
import type { Database } from '@crucible/storage';
import type { ApiServer } from '../integration/api-server.ts';
import { sha256 } from './scenario.ts';

// Everything the oracles look at, read from the API server, Postgres and the file store themselves.

export type Json = Record<string, any>;

export interface StoredStream {
  readonly attempt: number;
  readonly stream: 'stdout' | 'stderr';
  /** What the ledger says. */
  readonly bytes: number;
  readonly sha256: string | null;
  readonly complete: boolean;
  readonly gaps: readonly unknown[];
  readonly truncated: boolean;
  /** What is really there. */
  readonly found: { readonly bytes: number; readonly sha256: string; readonly joins: boolean };
}

export interface StoredCapture {
  readonly attempt: number;
  readonly state: string;
  readonly complete: boolean | null;
  readonly reason: string | null;
  readonly missing: string;
  readonly podUid: string;
}

export interface StoredAttempt {
  readonly number: number;
  readonly state: string;
  readonly jobName: string;
  readonly podUid: string | null;
  readonly startedAt: string | null;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly verdict: Json | null;
}

export interface StoredArtifact {
  readonly attempt: number;
  readonly path: string;
  readonly size: number;
  readonly sha256: string | null;
  readonly complete: boolean;
  /** Of the content in the file store; null when there is none. */
  readonly found: string | null;
}

/** One evaluation in the record. */
export interface RecordedRun {
  readonly uid: string;
  readonly name: string;
  readonly phase: string;
  readonly verdict: Json | null;
  readonly finishedAt: string | null;
  readonly acceptedAttempt: number | null;
  readonly eventSeq: number;
  readonly attempts: readonly StoredAttempt[];
  readonly captures: readonly StoredCapture[];
  readonly streams: readonly StoredStream[];
  readonly artifacts: readonly StoredArtifact[];
  readonly events: readonly { readonly seq: number; readonly type: string; readonly data: Json }[];
}

export interface StartedContainer {
  readonly podUid: string;
  readonly evaluationUid: string;
  readonly attempt: number;
}

export interface WorldState {
  /** Whether a container of this pod was ever started, as the node knows; always, when nobody can say. */
  readonly ran?: (podUid: string) => boolean;
  /** Every container that was started, as the node knows. */
  readonly started?: readonly StartedContainer[];
  readonly runs: readonly RecordedRun[];
  readonly evaluations: readonly Json[];
  readonly jobs: readonly Json[];
  readonly pods: readonly Json[];
  readonly configMaps: readonly Json[];
}

export interface Sources {
  readonly api: ApiServer;
  readonly namespaces: readonly string[];
  readonly record: Database;
  readonly files: string;
}

export async function readState({ api, namespaces, record, files }: Sources): Promise<WorldState> {
  const list = async (path: string): Promise<Json[]> => {
    const { status, body } = await api.get(path);
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${body['message']}`);
    return body['items'] as Json[];
  };
  const everywhere = async (path: (namespace: string) => string): Promise<Json[]> =>
    (await Promise.all(namespaces.map((namespace) => list(path(namespace))))).flat();
  const labelled = `?labelSelector=${encodeURIComponent('crucible.dev/evaluation-uid')}`;
  const [evaluations, jobs, pods, configMaps] = await Promise.all([
    everywhere((namespace) => `/apis/crucible.dev/v1alpha1/namespaces/${namespace}/evaluations`),
    everywhere((namespace) => `/apis/batch/v1/namespaces/${namespace}/jobs${labelled}`),
    everywhere((namespace) => `/api/v1/namespaces/${namespace}/pods${labelled}`),
    everywhere((namespace) => `/api/v1/namespaces/${namespace}/configmaps${labelled}`),
  ]);
  return { runs: await readRuns(record, new DirectoryFileStore({ directory: files })), evaluations, jobs, pods, configMaps };
}

async function readRuns(record: Database, files: DirectoryFileStore): Promise<RecordedRun[]> {
  const { rows } = await record.query<RecordedRun>(
    `SELECT uid, name, phase, verdict, finished_at::text AS "finishedAt", accepted_attempt AS "acceptedAttempt",
            event_seq AS "eventSeq" FROM crucible.evaluations ORDER BY name, created_at, uid`,
  );
  return await Promise.all(rows.map((row) => readRun(record, files, row)));
}

async function readRun(record: Database, files: DirectoryFileStore, row: RecordedRun): Promise<RecordedRun> {
  const all = async <T extends object>(text: string): Promise<T[]> => (await record.query<T>(text, [row.uid])).rows;
  const [attempts, captures, streams, artifacts, events] = [
    await all<StoredAttempt>(
      `SELECT number, state, job_name AS "jobName", pod_uid AS "podUid", started_at::text AS "startedAt",
              exit_code AS "exitCode", signal, verdict FROM crucible.attempts WHERE evaluation_uid = $1 ORDER BY number`,
    ),
    await all<StoredCapture>(
      `SELECT attempt, state, complete, reason, missing::text AS missing, pod_uid AS "podUid" FROM crucible.captures
       WHERE evaluation_uid = $1 ORDER BY attempt`,
    ),
    await all<Omit<StoredStream, 'found'>>(
      `SELECT attempt, stream, bytes, sha256, complete, gaps, truncated FROM crucible.streams WHERE evaluation_uid = $1
       ORDER BY attempt, stream DESC`,
    ),
    await all<Omit<StoredArtifact, 'found'>>(
      `SELECT attempt, path, size, sha256, complete FROM crucible.artifacts WHERE evaluation_uid = $1 ORDER BY attempt, index`,
    ),
    await all<RecordedRun['events'][number]>(
      'SELECT seq, type, data FROM crucible.events WHERE evaluation_uid = $1 ORDER BY seq',
    ),
  ];
  return {
    ...row,
    attempts,
    captures,
    events,
    streams: await Promise.all(streams.map(async (stream) => ({ ...stream, found: await readChunks(record, row.uid, stream) }))),
    artifacts: await Promise.all(
      artifacts.map(async (artifact) => ({ ...artifact, found: await readContent(files, artifact.sha256) })),
    ),
  };
}

async function readChunks(
  record: Database,
  uid: string,
  { attempt, stream }: Omit<StoredStream, 'found'>,
): Promise<StoredStream['found']> {
  const { rows } = await record.query<{ offset: number; data: Buffer }>(
    `SELECT byte_offset AS offset, data FROM crucible.output_chunks
     WHERE evaluation_uid = $1 AND attempt = $2 AND stream = $3 ORDER BY first_seq`,
    [uid, attempt, stream],
  );
  let end = 0;
  let joins = true;
  for (const { offset, data } of rows) {
    joins &&= offset === end;
    end += data.length;
  }
  return { bytes: end, sha256: sha256(Buffer.concat(rows.map(({ data }) => data))), joins };
}

async function readContent(files: DirectoryFileStore, content: string | null): Promise<string | null> {
  if (content === null || !(await files.has(content))) return null;
  return sha256(await files.read(content));
}
