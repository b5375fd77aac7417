import type { Queryable } from './database.ts';

/** What a record that nobody has damaged never holds. */
export interface RecordProblem {
  /** Of the run; null when it is of none. */
  evaluationUid: string | null;
  problem: string;
}

/**
 * Each finds what it names, at most 100 times. Streams of which retention has deleted the bytes keep a ledger that nothing
 * can be compared with.
 */
const CHECKS: [string, string][] = [
  ['stored output is not what its ledger says', `
    SELECT s.evaluation_uid FROM crucible.streams s
    JOIN crucible.captures c USING (evaluation_uid, attempt) JOIN crucible.evaluations e ON e.uid = s.evaluation_uid
    LEFT JOIN LATERAL (
      SELECT sum(octet_length(o.data)) AS bytes, encode(sha256(string_agg(o.data, ''::bytea ORDER BY o.first_seq)), 'hex') AS sha256
      FROM crucible.output_chunks o
      WHERE o.evaluation_uid = s.evaluation_uid AND o.attempt = s.attempt AND o.stream = s.stream) o ON true
    WHERE c.state = 'captured' AND e.output_deleted_at IS NULL
      AND (coalesce(o.bytes, 0), coalesce(o.sha256, encode(sha256(''), 'hex'))) IS DISTINCT FROM (s.bytes, s.sha256)`],
  ['events are not numbered from 1 without a gap', `
    SELECT e.uid FROM crucible.evaluations e
    LEFT JOIN crucible.events v ON v.evaluation_uid = e.uid AND v.evaluation_created_at = e.created_at
    GROUP BY e.uid HAVING (count(v.seq), coalesce(max(v.seq), 0)) IS DISTINCT FROM (e.event_seq, e.event_seq)`],
  ['a position was given twice', `
    SELECT (array_agg(evaluation_uid))[1] FROM crucible.events WHERE position IS NOT NULL GROUP BY position HAVING count(*) > 1`],
  ['a position is beyond the highest that was given', `
    SELECT evaluation_uid FROM crucible.events WHERE position > (SELECT last_position FROM crucible.event_positions)`],
  ['it is finished and its accepted attempt is not', `
    SELECT e.uid FROM crucible.evaluations e JOIN crucible.attempts a ON a.evaluation_uid = e.uid AND a.number = e.accepted_attempt
    WHERE a.state <> 'finalized'`],
  ['the number of attempts is not the number of their rows', `
    SELECT e.uid FROM crucible.evaluations e LEFT JOIN crucible.attempts a ON a.evaluation_uid = e.uid
    GROUP BY e.uid HAVING count(a.number) <> e.attempts`],
  ['a counter of a namespace is wrong', `
    SELECT NULL::uuid FROM (
      SELECT namespace_uid, count(*) AS evaluations, sum(spec_bytes) AS spec_bytes FROM crucible.evaluations GROUP BY 1) e
    FULL JOIN crucible.namespace_usage u USING (namespace_uid)
    WHERE (coalesce(e.evaluations, 0), coalesce(e.spec_bytes, 0)) IS DISTINCT FROM (coalesce(u.evaluations, 0), coalesce(u.spec_bytes, 0))`],
];

/** Reads everything there is: minutes, when it is much. Empty: the record is whole. For the owner, or the API's role. */
export async function checkRecord(db: Queryable): Promise<RecordProblem[]> {
  const problems: RecordProblem[] = [];
  for (const [problem, sql] of CHECKS) {
    const { rows } = await db.query<{ uid: string | null }>(`SELECT f.uid FROM (${sql}) AS f (uid) LIMIT 100`);
    problems.push(...rows.map(({ uid }) => ({ evaluationUid: uid, problem })));
  }
  return problems;
}
