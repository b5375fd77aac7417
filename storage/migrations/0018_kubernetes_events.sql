-- What the cluster told about a run's Jobs and pods (Scheduled, Pulled, FailedMount, BackOff, …), which it forgets after an
-- hour. For people who ask what happened: anybody who may create events in a namespace can write them, so no verdict is
-- made of them, they have no number among the run's own events, and everything about them is bounded.
CREATE TABLE crucible.kubernetes_events (
  evaluation_uid uuid NOT NULL REFERENCES crucible.evaluations ON DELETE CASCADE,
  -- Of the event object; all zeros: the row that counts what was left out.
  event_uid uuid NOT NULL,
  attempt integer CHECK (attempt >= 1),
  object_kind text NOT NULL CHECK (length(object_kind) <= 63),
  object_name text NOT NULL CHECK (length(object_name) <= 253),
  type text NOT NULL CHECK (length(type) <= 16),
  reason text NOT NULL CHECK (length(reason) <= 128),
  message text NOT NULL CHECK (length(message) <= 1024),
  component text NOT NULL CHECK (length(component) <= 128),
  count integer NOT NULL CHECK (count >= 1),
  first_seen_at timestamptz NOT NULL,
  last_seen_at timestamptz NOT NULL,
  -- Most times are whole seconds: what happened in the same one is in the order in which it was told.
  arrival bigint GENERATED ALWAYS AS IDENTITY,
  PRIMARY KEY (evaluation_uid, event_uid),
  CHECK (last_seen_at >= first_seen_at)
);
CREATE TRIGGER guard_delete BEFORE DELETE ON crucible.kubernetes_events FOR EACH ROW EXECUTE FUNCTION crucible.guard_delete();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON crucible.kubernetes_events
  FOR EACH STATEMENT EXECUTE FUNCTION crucible.guard_delete();

-- Keeps what is about a run: whose Job or pod the record has in that namespace, by UID, of whatever the event itself claims.
-- What is known already only grows (count, last time, message). Of a run the first hundred are kept, the others counted.
-- Returns the numbers of those that are about a run. A batch must not have an event twice.
CREATE FUNCTION crucible.keep_kubernetes_events(told json) RETURNS SETOF integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  most CONSTANT integer := 100;
  nobody CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
  RETURN QUERY
  WITH known AS MATERIALIZED (
    SELECT t.*, a.evaluation_uid, a.number AS attempt
    FROM json_to_recordset(told) AS t (n integer, namespace uuid, job uuid, pod uuid, uid uuid, kind text, name text, type text,
      reason text, message text, component text, count integer, first timestamptz, last timestamptz)
    -- OFFSET 0: each by its key, however few there seem to be.
    CROSS JOIN LATERAL (
      SELECT j.evaluation_uid, j.number FROM crucible.attempts j WHERE j.job_uid = t.job
      UNION ALL SELECT p.evaluation_uid, p.number FROM crucible.attempts p WHERE p.pod_uid = t.pod LIMIT 1) a
    CROSS JOIN LATERAL (
      SELECT FROM crucible.evaluations e WHERE e.uid = a.evaluation_uid AND e.namespace_uid = t.namespace OFFSET 0) e
    WHERE t.uid <> nobody
  ), fresh AS (
    SELECT k.n, k.evaluation_uid, k.first, k.last,
           row_number() OVER (PARTITION BY k.evaluation_uid ORDER BY k.first, k.n) + (
             SELECT count(*) FROM crucible.kubernetes_events s WHERE s.evaluation_uid = k.evaluation_uid AND s.event_uid <> nobody) AS place
    FROM known k WHERE NOT EXISTS (
      SELECT FROM crucible.kubernetes_events s WHERE s.evaluation_uid = k.evaluation_uid AND s.event_uid = k.uid)
  ), kept AS (
    INSERT INTO crucible.kubernetes_events AS s (evaluation_uid, event_uid, attempt, object_kind, object_name, type, reason, message,
      component, count, first_seen_at, last_seen_at)
    SELECT k.evaluation_uid, k.uid, k.attempt, left(k.kind, 63), left(k.name, 253), left(k.type, 16), left(k.reason, 128),
           left(k.message, 1024), left(k.component, 128), greatest(k.count, 1), k.first, greatest(k.first, k.last)
    FROM known k LEFT JOIN fresh f ON f.n = k.n WHERE f.place IS NULL OR f.place <= most ORDER BY k.n
    ON CONFLICT (evaluation_uid, event_uid) DO UPDATE SET message = excluded.message, count = greatest(s.count, excluded.count),
      last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at)
    WHERE excluded.count > s.count OR excluded.last_seen_at > s.last_seen_at
  ), left_out AS (
    INSERT INTO crucible.kubernetes_events AS s (evaluation_uid, event_uid, object_kind, object_name, type, reason, message, component,
      count, first_seen_at, last_seen_at)
    SELECT f.evaluation_uid, nobody, '', '', 'Warning', 'EventsLeftOut', '', '', count(*), min(f.first), greatest(min(f.first), max(f.last))
    FROM fresh f WHERE f.place > most GROUP BY f.evaluation_uid
    ON CONFLICT (evaluation_uid, event_uid) DO UPDATE SET count = least(2147483647, s.count::bigint + excluded.count),
      last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at)
  )
  SELECT k.n FROM known k;
END $$;
