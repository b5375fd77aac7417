import type { Queryable, Transaction } from './database.ts';
import { IntegrityError } from './errors.ts';
import { advisoryJsonText, jsonbText } from './json.ts';
import { CAPTURED_CHANNEL, EVENT_TYPES, STREAM_NAMES } from './types.ts';
import type { FinishCapture, StreamName } from './types.ts';

// How a capture is closed: the ledger of its streams, checked against the bytes that are stored, then the capture itself.

const KEY = 'evaluation_uid = $1 AND attempt = $2';

/** What is stored of the streams $3. */
const STORED = `
  SELECT n.stream, coalesce(sum(octet_length(c.data)), 0)::bigint AS bytes,
         coalesce(bool_and(c.byte_offset = c.expected), true) AS contiguous,
         encode(sha256(coalesce(string_agg(c.data, ''::bytea ORDER BY c.first_seq), ''::bytea)), 'hex') AS sha256
  FROM unnest($3::text[]) AS n(stream) LEFT JOIN (
    SELECT stream, first_seq, byte_offset, data,
           sum(octet_length(data)) OVER (PARTITION BY stream ORDER BY first_seq) - octet_length(data) AS expected
    FROM crucible.output_chunks WHERE ${KEY}) AS c USING (stream)
  GROUP BY n.stream`;

/** $3 to $10: ledgerValues. */
const LEDGER = `unnest($3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::boolean[], $8::boolean[], $9::bigint[], $10::text[])
  AS n(stream, bytes, lines, gaps, truncated, complete, produced_bytes, sha256)`;
const SET_LEDGER = `bytes = n.bytes, lines = n.lines, gaps = n.gaps::jsonb, truncated = n.truncated, complete = n.complete,
  produced_bytes = n.produced_bytes, sha256 = n.sha256`;

interface StoredBytes {
  stream: StreamName;
  bytes: number;
  sha256: string;
  contiguous: boolean;
}

function ledgerValues({ evaluationUid, attempt, streams }: FinishCapture, sha256s: readonly (string | null)[]): unknown[] {
  const of = <T>(value: (ledger: FinishCapture['streams'][StreamName]) => T): T[] => STREAM_NAMES.map((name) => value(streams[name]));
  return [
    evaluationUid, attempt, STREAM_NAMES, of(({ bytes }) => bytes), of(({ lines }) => lines), of(({ gaps }) => jsonbText(gaps)),
    of(({ truncated }) => truncated), of(({ complete }) => complete), of(({ producedBytes }) => producedBytes ?? null), sha256s,
  ];
}

/**
 * All of it in one statement, of a complete capture without artifacts, as most are: in steps it holds the row of its
 * namespace's usage, which every new run wants too, for as long as a way to the server and back takes. False: something is not
 * as it should be, and nothing was done; the steps tell what. Holes are left to them as well: who fills one moves no
 * `last_seq`, and what is stored would be summed up as it was before the row was locked.
 */
export async function closeAtOnce(db: Queryable, input: FinishCapture): Promise<boolean> {
  if (!input.complete || input.artifacts.length > 0) return false;
  const { rowCount } = await db.query(
    `WITH locked AS (
       SELECT evaluation_uid, attempt FROM crucible.captures
       WHERE ${KEY} AND pod_uid = $11 AND state = 'following' AND last_seq = $12 AND missing = '{}' FOR NO KEY UPDATE
     ), stored AS (${STORED}), agreed AS (
       SELECT n.stream, n.bytes, n.lines, n.gaps, n.truncated, n.complete, n.produced_bytes, s.sha256
       FROM ${LEDGER} JOIN stored s USING (stream)
       WHERE s.contiguous AND s.bytes = n.bytes AND coalesce(n.sha256, s.sha256) = s.sha256
     ), ledger AS (
       UPDATE crucible.streams s SET ${SET_LEDGER} FROM agreed n, locked l
       WHERE s.evaluation_uid = l.evaluation_uid AND s.attempt = l.attempt AND s.stream = n.stream
         AND (SELECT count(*) FROM agreed) = cardinality($3::text[])
       RETURNING s.stream
     ), closed AS (
       UPDATE crucible.captures c SET state = 'captured', captured_at = now(), recorder = $13, complete = true, reason = NULL,
         artifacts_complete = true, summary = $14, receipt = $15
       FROM locked l WHERE c.evaluation_uid = l.evaluation_uid AND c.attempt = l.attempt
         AND (SELECT count(*) FROM ledger) = cardinality($3::text[])
       RETURNING c.evaluation_uid AS uid
     )
     SELECT crucible.append_capture_event(uid, $16, $17), pg_notify($18, e.namespace || '/' || e.name)
     FROM closed JOIN crucible.evaluations e USING (uid)`,
    [
      ...ledgerValues(input, STREAM_NAMES.map((name) => input.streams[name].sha256 ?? null)), input.podUid, input.lastSeq, input.recorder,
      advisoryJsonText(input.summary), advisoryJsonText(input.receipt), EVENT_TYPES.captureFinished, jsonbText(eventData(input)), CAPTURED_CHANNEL,
    ],
  );
  return rowCount === 1;
}

export async function closeStreams(tx: Transaction, input: FinishCapture): Promise<void> {
  const { rows } = await tx.query<StoredBytes>(STORED, [input.evaluationUid, input.attempt, STREAM_NAMES]);
  const stored = STREAM_NAMES.map((stream) => agreed(stream, input, rows));
  await tx.query(
    `UPDATE crucible.streams s SET ${SET_LEDGER} FROM ${LEDGER} WHERE s.evaluation_uid = $1 AND s.attempt = $2 AND s.stream = n.stream`,
    ledgerValues(input, stored.map(({ sha256 }) => sha256)),
  );
}

/** What is stored of a stream, when it is what its ledger says. */
function agreed(stream: StreamName, input: FinishCapture, rows: readonly StoredBytes[]): StoredBytes {
  const ledger = input.streams[stream];
  const stored = rows.find((row) => row.stream === stream);
  if (stored === undefined || !stored.contiguous) throw new IntegrityError(`the stored chunks of ${stream} do not join`);
  if (stored.bytes !== ledger.bytes || (ledger.sha256 ?? stored.sha256) !== stored.sha256) {
    throw new IntegrityError(`the ledger of ${stream} says ${ledger.bytes} bytes, stored are ${stored.bytes} or others`);
  }
  return stored;
}

/** With its event, and word to whoever waits for it. */
export async function close(tx: Transaction, input: FinishCapture): Promise<void> {
  await tx.query(
    `WITH closed AS (
       UPDATE crucible.captures SET state = 'captured', captured_at = now(), recorder = $3, complete = $4, reason = $5,
         artifacts_complete = $6, summary = $7, receipt = $8 WHERE ${KEY} RETURNING evaluation_uid AS uid
     )
     SELECT crucible.append_capture_event(uid, $9, $10), pg_notify($11, e.namespace || '/' || e.name)
     FROM closed JOIN crucible.evaluations e USING (uid)`,
    [
      input.evaluationUid, input.attempt, input.recorder, input.complete, input.reason, input.artifactsComplete,
      advisoryJsonText(input.summary), advisoryJsonText(input.receipt), EVENT_TYPES.captureFinished, jsonbText(eventData(input)), CAPTURED_CHANNEL,
    ],
  );
}

function eventData({ attempt, complete, reason, streams, artifacts }: FinishCapture): object {
  return { attempt, complete, reason, stdoutBytes: streams.stdout.bytes, stderrBytes: streams.stderr.bytes, artifacts: artifacts.length };
}
