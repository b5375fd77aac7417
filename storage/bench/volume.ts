// Many runs, written in bulk: what operator and recorder write one by one, with triggers off, and what the triggers derive
// beside it. Always the same for one `runs`, but for the times, which end now.
import { Client } from 'pg';

const VACUUM_ROUNDS = 10;

/** A thousand at a million runs: of namespaces that are gone the rows stay, so there are ever more. */
export const namespacesAt = (runs: number): number => Math.max(20, Math.floor(runs / 1000));
/** Of 20 runs each. */
export const suitesAt = (runs: number): number => Math.floor(runs / 50);
export const DRILLS = 2_000;
const RUNNING = 40;
/** Events of a finished run. */
const EVENTS = 6;

export interface VolumeOptions {
  readonly tell?: (message: string) => void;
  /** Those of a real cluster, whose UIDs nobody chooses: all runs are in these. */
  readonly namespaceUids?: readonly string[];
}

const STEPS = (runs: number, uids: readonly string[] | undefined): [string, string][] => {
  const namespaceUid = (n: string): string => (uids === undefined ? `md5('ns' || ${n})::uuid` : `('{${uids.join()}}'::uuid[])[1 + ${n}]`);
  const namespaces = uids?.length ?? namespacesAt(runs);
  const suites = suitesAt(runs);
  const queued = Math.min(10_000, Math.floor(runs / 10));
  const finished = runs - queued - RUNNING;
  return [
    ['runs', `
      CREATE TEMP TABLE v AS SELECT i, md5('run' || i)::uuid AS uid, CASE WHEN i % 2 = 0 THEN 0 ELSE (i / 2) % ${namespaces} END AS ns,
        date_trunc('second', now() - interval '365 days' * (1 - i::float8 / ${runs})) AS created,
        CASE WHEN i <= ${finished} THEN CASE WHEN i % 1000 = 7 THEN 'NodeLost' WHEN i % 100 < 80 THEN 'Succeeded' WHEN i % 100 < 97 THEN 'NonZeroExit'
             ELSE 'TimedOut' END END AS verdict,
        i > ${finished + RUNNING} AS queued
      FROM generate_series(1, ${runs}) i;
      ANALYZE v;
      INSERT INTO crucible.namespaces (uid, name) SELECT ${namespaceUid('n')}, 'team-' || n FROM generate_series(0, ${namespaces - 1}) n;
      SELECT crucible.make_event_partition((now() - make_interval(months => m))::date) FROM generate_series(0, 12) m`],
    ['evaluations', `
      INSERT INTO crucible.evaluations (uid, namespace, namespace_uid, name, generation, spec, labels, phase, verdict, created_at, accepted_at,
        finished_at, accepted_attempt, event_seq, epoch, attempts, runtime, queue_reason, queue_message)
      SELECT uid, 'team-' || ns, ${namespaceUid('ns')}, 'run-' || i, 1,
        json_build_object('runtime', 'python', 'code', repeat('print("hello")' || chr(10), 10 + (i % 30)::int)),
        jsonb_build_object('team', 't' || i % 10, 'suite', 's' || i % 1000) || CASE WHEN i % 50000 = 3 THEN '{"rare": "yes"}' ELSE '{}' END::jsonb,
        CASE WHEN queued THEN 'Queued' WHEN verdict IS NULL THEN 'Running' WHEN verdict = 'Succeeded' THEN 'Succeeded' ELSE 'Failed' END,
        CASE WHEN verdict IS NOT NULL THEN jsonb_build_object('class', verdict, 'attributableTo', 'Code', 'message', 'generated') END,
        created, created, CASE WHEN verdict IS NOT NULL THEN created + interval '30 seconds' END,
        CASE WHEN verdict IS NOT NULL THEN 1 END, CASE WHEN verdict IS NULL THEN 1 ELSE ${EVENTS} END, 1, (NOT queued)::int, 'python',
        CASE WHEN queued THEN 'GlobalLimit' END, CASE WHEN queued THEN 'As many evaluations run as may at once.' END FROM v`],
    ['submissions', `
      INSERT INTO crucible.submissions (uid, namespace, namespace_uid, name, submitted_by, submitted_at, state)
      SELECT uid, 'team-' || ns, ${namespaceUid('ns')}, 'run-' || i, 'user-' || i % 100, created, 'recorded' FROM v WHERE i % 2 = 0`],
    ['attempts', `
      INSERT INTO crucible.attempts (evaluation_uid, number, job_name, job_uid, pod_name, pod_uid, node, image, state, epoch, created_at, started_at,
        finished_at, finalized_at, exit_code, verdict)
      SELECT uid, 1, 'run-' || i || '-1', md5('job' || i)::uuid, 'run-' || i || '-1-x', md5('pod' || i)::uuid, 'node-' || i % 50, 'python:3',
        CASE WHEN verdict IS NULL THEN 'running' ELSE 'finalized' END, 1, created, created + interval '2 seconds',
        CASE WHEN verdict IS NOT NULL THEN created + interval '20 seconds' END, CASE WHEN verdict IS NOT NULL THEN created + interval '25 seconds' END,
        CASE WHEN verdict IS NOT NULL THEN (verdict <> 'Succeeded')::int END, CASE WHEN verdict IS NOT NULL THEN jsonb_build_object('class', verdict) END
      FROM v WHERE NOT queued`],
    ['captures', `
      INSERT INTO crucible.captures (evaluation_uid, attempt, pod_uid, recorder, state, last_seq, started_at, captured_at, complete, artifacts_complete, summary, receipt)
      SELECT uid, 1, md5('pod' || i)::uuid, 'recorder-0', CASE WHEN verdict IS NULL THEN 'following' ELSE 'captured' END, 2, created + interval '3 seconds',
        CASE WHEN verdict IS NOT NULL THEN created + interval '22 seconds' END, CASE WHEN verdict IS NOT NULL THEN true END,
        CASE WHEN verdict IS NOT NULL THEN true END, '{"exitCode": 0}', '{"uid": 10000}' FROM v WHERE NOT queued`],
    ['streams', `
      INSERT INTO crucible.streams (evaluation_uid, attempt, stream, bytes, lines, complete, sha256)
      SELECT uid, 1, s, CASE s WHEN 'stdout' THEN 64 ELSE 0 END, CASE s WHEN 'stdout' THEN 2 ELSE 0 END, verdict IS NOT NULL,
        CASE WHEN verdict IS NOT NULL THEN encode(sha256(CASE s WHEN 'stdout' THEN convert_to(repeat(md5(i::text), 2), 'UTF8') ELSE '' END), 'hex') END
      FROM v, unnest(ARRAY['stdout', 'stderr']) s WHERE NOT queued`],
    ['output', `
      INSERT INTO crucible.output_chunks (evaluation_uid, attempt, stream, first_seq, last_seq, byte_offset, lines, data)
      SELECT uid, 1, 'stdout', 1, 2, 0, 2, convert_to(repeat(md5(i::text), 2), 'UTF8') FROM v WHERE NOT queued`],
    ['artifacts', `
      INSERT INTO crucible.artifacts (evaluation_uid, attempt, index, path, size, sha256, complete)
      SELECT uid, 1, 0, 'out/result.json', 100, encode(sha256(i::text::bytea), 'hex'), true FROM v WHERE verdict IS NOT NULL AND i % 5 = 0`],
    ['events', `
      INSERT INTO crucible.events (evaluation_uid, evaluation_created_at, seq, type, data, at, position, arrival)
      SELECT uid, created, seq, (ARRAY['evaluation.accepted', 'attempt.created', 'attempt.started', 'capture.finished', 'attempt.finalized', 'evaluation.finished'])[seq],
        jsonb_build_object('attempt', 1, 'podName', 'run-' || i || '-1-x'), created + seq * interval '4 seconds', (i - 1) * ${EVENTS} + seq, (i - 1) * ${EVENTS} + seq
      FROM v, generate_series(1, ${EVENTS}) seq WHERE verdict IS NOT NULL OR seq = 1;
      UPDATE crucible.event_positions SET last_position = (SELECT max(position) FROM crucible.events);
      SELECT setval('crucible.event_arrivals', ${runs * EVENTS + 1})`],
    ['events of Kubernetes', `
      INSERT INTO crucible.kubernetes_events (evaluation_uid, event_uid, attempt, object_kind, object_name, type, reason, message, component, count, first_seen_at, last_seen_at)
      SELECT uid, md5('event' || i || '/' || n)::uuid, 1, CASE WHEN n IN (1, 6) THEN 'Job' ELSE 'Pod' END, 'run-' || i || '-1', 'Normal',
        (ARRAY['SuccessfulCreate', 'Scheduled', 'Pulled', 'Created', 'Started', 'Completed'])[n], 'Successfully did to run-' || i || '-1-x what there was to do',
        (ARRAY['job-controller', 'default-scheduler', 'kubelet', 'kubelet', 'kubelet', 'job-controller'])[n], 1, created + n * interval '1 second', created + n * interval '1 second'
      FROM v, generate_series(1, 6) n WHERE verdict IS NOT NULL`],
    ['suites', `
      CREATE TEMP TABLE w AS SELECT i, md5('suite' || i)::uuid AS uid, i % ${namespaces} AS ns, i > ${suites - 5} AS running,
        date_trunc('second', now() - interval '365 days' * (1 - i::float8 / ${suites})) AS created FROM generate_series(1, ${suites}) i;
      INSERT INTO crucible.suites (uid, namespace, namespace_uid, name, generation, spec, labels, phase, reason, message, total, summary, created_at,
        accepted_at, finished_at, event_seq, epoch)
      SELECT uid, 'team-' || ns, ${namespaceUid('ns')}, 'suite-' || i, 1, '{"samples": 5}', '{}', CASE WHEN running THEN 'Running' ELSE 'Succeeded' END,
        CASE WHEN NOT running THEN 'Succeeded' END, CASE WHEN NOT running THEN 'All runs passed.' END, 20, '{"passed": 20}', created, created,
        CASE WHEN NOT running THEN created + interval '10 minutes' END, 3, 1 FROM w;
      INSERT INTO crucible.suite_cells (suite_uid, cell, parameters, summary) SELECT uid, c, jsonb_build_object('SIZE', c::text), '{"passed": 5}' FROM w, generate_series(1, 4) c;
      INSERT INTO crucible.suite_runs (suite_uid, cell, sample, evaluation_uid, evaluation_name, created_at, outcome, verdict_class, attempts, finished_at)
      SELECT uid, c, s, md5('suite' || i || '/' || c || '/' || s)::uuid, 'suite-' || i || '-' || c || '-' || s, created, 'Passed', 'Succeeded', 1, created + interval '5 minutes'
      FROM w, generate_series(1, 4) c, generate_series(1, 5) s;
      INSERT INTO crucible.suite_events (suite_uid, seq, type, data, at) SELECT uid, n, 'suite.phase', '{"phase": "Running"}', created FROM w, generate_series(1, 3) n;
      DROP TABLE w`],
    // Their number does not depend on that of the runs: what is older than 90 days goes.
    ['drills', `
      CREATE TEMP TABLE w AS SELECT i, md5('drill' || i)::uuid AS id, now() - interval '90 days' * (1 - i::float8 / ${DRILLS}) AS ended FROM generate_series(1, ${DRILLS}) i;
      INSERT INTO crucible.drills (id, kind, runtime_class, trigger, outcome, held, broken, open, started_at, finished_at, epoch)
      SELECT id, CASE WHEN i % 10 = 0 THEN 'full' ELSE 'quick' END, CASE WHEN i % 3 > 0 THEN 'class-' || i % 3 END, 'schedule', 'held', 12, 0, 0, ended, ended, 1 FROM w;
      INSERT INTO crucible.drill_findings (drill_id, attack, rule, outcome, evidence)
      SELECT id, 'attack-' || a, 1 + a % 12, 'held', 'refused' FROM w, generate_series(1, 20) a;
      DROP TABLE w`],
    ['what triggers derive', `
      INSERT INTO crucible.evaluation_labels SELECT e.namespace_uid, l.key || '=' || l.value, e.created_at, e.uid FROM crucible.evaluations e, jsonb_each_text(e.labels) l;
      INSERT INTO crucible.namespace_usage SELECT namespace_uid, count(*), sum(spec_bytes), 64 * count(*) FILTER (WHERE finished_at IS NOT NULL), max(created_at)
        FROM crucible.evaluations GROUP BY 1;
      INSERT INTO crucible.artifact_usage SELECT e.namespace_uid, sum(a.size), count(*) FROM crucible.artifacts a JOIN crucible.evaluations e ON e.uid = a.evaluation_uid
        GROUP BY 1`],
  ];
};

/** Fills an empty, migrated database. `dsn` is a superuser's: triggers are off meanwhile. */
export async function fillVolume(dsn: string, runs: number, { tell = () => undefined, namespaceUids }: VolumeOptions = {}): Promise<void> {
  const client = new Client({ connectionString: dsn });
  await client.connect();
  try {
    await client.query(`SET session_replication_role = 'replica'; SET work_mem = '256MB'; SET maintenance_work_mem = '256MB'; SET timezone = 'UTC'`);
    for (const [name, statement] of STEPS(runs, namespaceUids)) {
      const begun = performance.now();
      await client.query(statement);
      tell(`${name}: ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    }
    await client.query('DROP TABLE v');
    await vacuum(client);
  } finally {
    await client.end();
  }
}

/** As autovacuum does in time: statistics, and pages that index-only scans need not look at. */
async function vacuum(client: Client): Promise<void> {
  // Whatever has a snapshot of before (autovacuum's own ANALYZE is enough) keeps pages from being marked: again, then.
  for (let round = 0; round < VACUUM_ROUNDS; round += 1) {
    await client.query('VACUUM ANALYZE');
    const { rows } = await client.query(`SELECT 1 FROM pg_class WHERE relnamespace = 'crucible'::regnamespace AND relkind = 'r' AND relallvisible < relpages`);
    if (rows.length === 0) return;
  }
}
