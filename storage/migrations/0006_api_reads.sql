-- What the API reads: who has submitted what, which namespaces there are, what waits, and how much is stored, each answered
-- from an index or a counter instead of from a scan of all runs.

-- ------------------------------------------------------------------------------------------------ namespaces
-- The API may not read namespaces in the cluster. Access is decided for a name, rows are found by UID: this says which UID
-- has the name now. One that is gone keeps its rows, and nobody gets at them by making the name again.
CREATE TABLE crucible.namespaces (
  uid uuid PRIMARY KEY,
  name text NOT NULL,
  first_seen_at timestamptz NOT NULL DEFAULT now(),
  gone_at timestamptz
);
-- Of several UIDs with one name the one that was seen last is the present one.
INSERT INTO crucible.namespaces (uid, name, first_seen_at, gone_at)
  SELECT namespace_uid, min(namespace), min(accepted_at),
         CASE WHEN row_number() OVER (PARTITION BY min(namespace) ORDER BY max(accepted_at) DESC) > 1 THEN now() END
  FROM crucible.evaluations GROUP BY namespace_uid;
CREATE UNIQUE INDEX namespaces_current ON crucible.namespaces (name) WHERE gone_at IS NULL;

CREATE FUNCTION crucible.observe_namespace(namespace uuid, namespace_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Known, also when it is gone: what is told late brings nothing back.
  IF EXISTS (SELECT FROM crucible.namespaces n WHERE n.uid = namespace) THEN
    RETURN;
  END IF;
  UPDATE crucible.namespaces n SET gone_at = now() WHERE n.name = namespace_name AND n.gone_at IS NULL;
  INSERT INTO crucible.namespaces (uid, name) VALUES (namespace, namespace_name) ON CONFLICT DO NOTHING;
END $$;

CREATE FUNCTION crucible.end_namespace(namespace uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  UPDATE crucible.namespaces n SET gone_at = now() WHERE n.uid = namespace AND n.gone_at IS NULL
$$;

-- ------------------------------------------------------------------------------------------------ submissions
-- Written by the API when the API server has taken an Evaluation, before it tells the caller: whoever asks next is answered
-- from here until the operator has written its own row.
CREATE TABLE crucible.submissions (
  uid uuid PRIMARY KEY,
  namespace text NOT NULL,
  namespace_uid uuid NOT NULL,
  name text NOT NULL,
  submitted_by text NOT NULL CHECK (submitted_by <> ''),
  submitted_at timestamptz NOT NULL DEFAULT now(),
  -- `recorded`: there is a row of evaluations. `withdrawn`: deleted before the operator had anything to record of it.
  state text NOT NULL DEFAULT 'submitted' CHECK (state IN ('submitted', 'recorded', 'withdrawn')),
  withdrawn_at timestamptz,
  CHECK ((state = 'withdrawn') = (withdrawn_at IS NOT NULL))
);
-- Few at any time.
CREATE INDEX submissions_by_time ON crucible.submissions (namespace_uid, submitted_at, uid) WHERE state = 'submitted';
CREATE INDEX submissions_withdrawn ON crucible.submissions (withdrawn_at) WHERE state = 'withdrawn';
CREATE TRIGGER guard_delete BEFORE DELETE ON crucible.submissions FOR EACH ROW EXECUTE FUNCTION crucible.guard_delete();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON crucible.submissions
  FOR EACH STATEMENT EXECUTE FUNCTION crucible.guard_delete();

-- The operator may be the faster of the two. If neither sees the other's row, it stays `submitted`, and readers look twice.
CREATE FUNCTION crucible.match_submission() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM crucible.evaluations WHERE uid = NEW.uid) THEN
    NEW.state := 'recorded';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER match_new BEFORE INSERT ON crucible.submissions FOR EACH ROW EXECUTE FUNCTION crucible.match_submission();

CREATE FUNCTION crucible.withdraw_submission(submission uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE crucible.submissions s SET state = 'withdrawn', withdrawn_at = now()
  WHERE s.uid = submission AND s.state = 'submitted' AND NOT EXISTS (SELECT FROM crucible.evaluations e WHERE e.uid = s.uid);
  RETURN FOUND;
END $$;

-- ------------------------------------------------------------------------------------------------ what waits
-- Out of the spec, which can be large: the order of the queue reads neither it nor the attempts.
ALTER TABLE crucible.evaluations
  ADD COLUMN priority integer NOT NULL DEFAULT 0,
  ADD COLUMN runtime text,
  ADD COLUMN attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  -- As the resource's status says it; null for what does not wait.
  ADD COLUMN queue_reason text CHECK (length(queue_reason) <= 100),
  ADD COLUMN queue_message text CHECK (length(queue_message) <= 1024),
  ADD CHECK ((queue_reason IS NULL) = (queue_message IS NULL)),
  ADD COLUMN spec_bytes integer GENERATED ALWAYS AS (octet_length(spec::text)) STORED;
-- Looking into json unescapes all of it and fails on a "\u0000" or half a surrogate pair anywhere. So escapes go first; what
-- is an escaped backslash stays one.
UPDATE crucible.evaluations e SET
  priority = CASE WHEN (s.spec -> 'priority')::text ~ '^-?\d{1,9}$' THEN (s.spec -> 'priority')::text::integer ELSE 0 END,
  runtime = s.spec ->> 'runtime'
FROM (SELECT uid, regexp_replace(spec::text, '(\\\\)|\\u[0-9A-Fa-f]{4}', '\1', 'g')::json AS spec FROM crucible.evaluations) s
WHERE s.uid = e.uid AND json_typeof(s.spec) = 'object';
UPDATE crucible.evaluations e SET attempts = a.number
  FROM (SELECT evaluation_uid, count(*) AS number FROM crucible.attempts GROUP BY evaluation_uid) a WHERE a.evaluation_uid = e.uid;

CREATE FUNCTION crucible.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'a finished evaluation never changes' USING ERRCODE = 'CRU01';
END $$;
CREATE TRIGGER guard_queue BEFORE UPDATE OF priority, queue_reason, queue_message ON crucible.evaluations FOR EACH ROW
  WHEN (OLD.finished_at IS NOT NULL AND (NEW.priority, NEW.queue_reason, NEW.queue_message)
        IS DISTINCT FROM (OLD.priority, OLD.queue_reason, OLD.queue_message))
  EXECUTE FUNCTION crucible.refuse_change();

-- The evaluation's row is locked by whoever creates an attempt (attempts.ts).
CREATE FUNCTION crucible.count_attempt() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE crucible.evaluations SET attempts = attempts + 1 WHERE uid = NEW.evaluation_uid;
  -- The first attempt takes a place in the queue and keeps it for the others.
  IF NEW.number = 1 THEN
    UPDATE crucible.namespace_usage u SET last_grant_at = greatest(u.last_grant_at, NEW.created_at)
    FROM crucible.evaluations e WHERE e.uid = NEW.evaluation_uid AND u.namespace_uid = e.namespace_uid;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER count_new AFTER INSERT ON crucible.attempts FOR EACH ROW EXECUTE FUNCTION crucible.count_attempt();

-- Those without a place, and those with one: exactly what a position is computed from.
CREATE INDEX evaluations_waiting ON crucible.evaluations (created_at, namespace_uid, priority, uid, name)
  WHERE finished_at IS NULL AND attempts = 0;
CREATE INDEX evaluations_placed ON crucible.evaluations (namespace_uid, created_at, uid)
  WHERE finished_at IS NULL AND attempts > 0;

-- ------------------------------------------------------------------------------------------------ lists
-- All read backwards: newest first, with the uid where two are of one second.
DROP INDEX crucible.evaluations_by_time;
CREATE INDEX evaluations_by_time ON crucible.evaluations (namespace_uid, created_at, uid);
CREATE INDEX evaluations_by_phase ON crucible.evaluations (namespace_uid, phase, created_at, uid);
CREATE INDEX evaluations_by_verdict ON crucible.evaluations (namespace_uid, (verdict ->> 'class'), created_at, uid)
  WHERE verdict IS NOT NULL;

-- A GIN index finds a label but knows no order: a label of half a million runs would be sorted for each page. Derived from
-- evaluations.labels by a trigger, never written otherwise.
CREATE TABLE crucible.evaluation_labels (
  namespace_uid uuid NOT NULL,
  label text NOT NULL, -- key=value
  created_at timestamptz NOT NULL,
  uid uuid NOT NULL,
  PRIMARY KEY (namespace_uid, label, created_at, uid)
);
INSERT INTO crucible.evaluation_labels (namespace_uid, label, created_at, uid)
  SELECT e.namespace_uid, l.key || '=' || coalesce(l.value, ''), e.created_at, e.uid
  FROM crucible.evaluations e, jsonb_each_text(e.labels) l;

CREATE FUNCTION crucible.sync_labels() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    DELETE FROM crucible.evaluation_labels x USING jsonb_each_text(OLD.labels) l
    WHERE (x.namespace_uid, x.label, x.created_at, x.uid)
      = (OLD.namespace_uid, l.key || '=' || coalesce(l.value, ''), OLD.created_at, OLD.uid);
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO crucible.evaluation_labels (namespace_uid, label, created_at, uid)
      SELECT NEW.namespace_uid, l.key || '=' || coalesce(l.value, ''), NEW.created_at, NEW.uid FROM jsonb_each_text(NEW.labels) l;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER sync_labels AFTER INSERT OR DELETE ON crucible.evaluations
  FOR EACH ROW EXECUTE FUNCTION crucible.sync_labels();
CREATE TRIGGER sync_changed_labels AFTER UPDATE OF labels ON crucible.evaluations
  FOR EACH ROW WHEN (OLD.labels IS DISTINCT FROM NEW.labels) EXECUTE FUNCTION crucible.sync_labels();

-- ------------------------------------------------------------------------------------------------ how much is stored
-- As artifact_usage: a count of all runs is too slow to ask for each page. Output counts once it is captured.
CREATE TABLE crucible.namespace_usage (
  namespace_uid uuid PRIMARY KEY,
  evaluations bigint NOT NULL DEFAULT 0 CHECK (evaluations >= 0),
  spec_bytes bigint NOT NULL DEFAULT 0 CHECK (spec_bytes >= 0),
  output_bytes bigint NOT NULL DEFAULT 0 CHECK (output_bytes >= 0),
  -- When one of it was last given a place: between namespaces that run equally many it decides who is next.
  last_grant_at timestamptz
);
INSERT INTO crucible.namespace_usage (namespace_uid, evaluations, spec_bytes, output_bytes, last_grant_at)
  SELECT e.namespace_uid, count(*), sum(e.spec_bytes), coalesce(sum(o.bytes) FILTER (WHERE e.output_deleted_at IS NULL), 0),
         max(a.created_at)
  FROM crucible.evaluations e
  LEFT JOIN crucible.attempts a ON a.evaluation_uid = e.uid AND a.number = 1
  LEFT JOIN (SELECT s.evaluation_uid, sum(s.bytes) AS bytes FROM crucible.streams s
             JOIN crucible.captures c USING (evaluation_uid, attempt) WHERE c.state = 'captured' GROUP BY s.evaluation_uid) o
    ON o.evaluation_uid = e.uid
  GROUP BY e.namespace_uid;

CREATE FUNCTION crucible.captured_bytes(evaluation uuid) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(sum(s.bytes), 0)::bigint FROM crucible.streams s JOIN crucible.captures c USING (evaluation_uid, attempt)
  WHERE s.evaluation_uid = evaluation AND c.state = 'captured'
$$;

CREATE FUNCTION crucible.count_new_evaluations() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  seen record;
BEGIN
  FOR seen IN SELECT namespace_uid, min(namespace) AS name, count(*) AS runs, sum(spec_bytes) AS bytes FROM new_rows
              GROUP BY namespace_uid ORDER BY namespace_uid LOOP
    PERFORM crucible.observe_namespace(seen.namespace_uid, seen.name);
    INSERT INTO crucible.namespace_usage AS u (namespace_uid, evaluations, spec_bytes)
      VALUES (seen.namespace_uid, seen.runs, seen.bytes)
      ON CONFLICT (namespace_uid)
      DO UPDATE SET evaluations = u.evaluations + excluded.evaluations, spec_bytes = u.spec_bytes + excluded.spec_bytes;
  END LOOP;
  UPDATE crucible.submissions SET state = 'recorded' WHERE uid IN (SELECT uid FROM new_rows) AND state = 'submitted';
  RETURN NULL;
END $$;
CREATE TRIGGER count_new AFTER INSERT ON crucible.evaluations REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION crucible.count_new_evaluations();

CREATE FUNCTION crucible.count_changed_evaluation() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  output bigint := 0;
BEGIN
  IF OLD.output_deleted_at IS NULL AND (TG_OP = 'DELETE' OR NEW.output_deleted_at IS NOT NULL) THEN
    output := crucible.captured_bytes(OLD.uid);
  END IF;
  IF TG_OP = 'DELETE' THEN
    UPDATE crucible.namespace_usage SET evaluations = evaluations - 1, spec_bytes = spec_bytes - OLD.spec_bytes,
      output_bytes = output_bytes - output WHERE namespace_uid = OLD.namespace_uid;
    RETURN OLD;
  END IF;
  UPDATE crucible.namespace_usage SET spec_bytes = spec_bytes + octet_length(NEW.spec::text) - octet_length(OLD.spec::text),
    output_bytes = output_bytes - output WHERE namespace_uid = OLD.namespace_uid;
  RETURN NEW;
END $$;
-- Before it goes, so that its output is still there to count.
CREATE TRIGGER count_gone BEFORE DELETE ON crucible.evaluations
  FOR EACH ROW EXECUTE FUNCTION crucible.count_changed_evaluation();
CREATE TRIGGER count_changed AFTER UPDATE OF spec, output_deleted_at ON crucible.evaluations
  FOR EACH ROW WHEN (OLD.spec::text <> NEW.spec::text OR OLD.output_deleted_at IS DISTINCT FROM NEW.output_deleted_at)
  EXECUTE FUNCTION crucible.count_changed_evaluation();

CREATE FUNCTION crucible.count_captured_output() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE crucible.namespace_usage u SET output_bytes = u.output_bytes + s.bytes
  FROM crucible.evaluations e,
    (SELECT coalesce(sum(bytes), 0) AS bytes FROM crucible.streams
     WHERE evaluation_uid = NEW.evaluation_uid AND attempt = NEW.attempt) s
  WHERE e.uid = NEW.evaluation_uid AND e.output_deleted_at IS NULL AND u.namespace_uid = e.namespace_uid;
  RETURN NULL;
END $$;
CREATE TRIGGER count_captured AFTER UPDATE OF state ON crucible.captures
  FOR EACH ROW WHEN (OLD.state = 'following' AND NEW.state = 'captured') EXECUTE FUNCTION crucible.count_captured_output();

-- ------------------------------------------------------------------------------------------------ retention
-- As in 0003; submissions go with their run, and those that were withdrawn by their own age. One at a time: two would lock
-- the counters of several namespaces in different orders.
CREATE OR REPLACE FUNCTION crucible.expire(class text, older_than interval, batch integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before timestamptz := now() - older_than;
  runs uuid[];
  told uuid[];
  run uuid;
BEGIN
  IF older_than IS NULL OR older_than < interval '1 day' OR class NOT IN ('output', 'artifacts', 'records') THEN
    RAISE EXCEPTION 'nothing is deleted before it is a day old' USING ERRCODE = '22023';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('crucible.expire'));
  PERFORM set_config('crucible.retention', 'on', true);
  IF class = 'records' THEN
    DELETE FROM crucible.submissions WHERE uid IN (
      SELECT uid FROM crucible.submissions WHERE state = 'withdrawn' AND withdrawn_at < before
      ORDER BY withdrawn_at LIMIT least(greatest(batch, 1), 1000));
  END IF;
  -- What is still captured, an older attempt for instance, is not finished for us. Not one statement for the three: each
  -- has an index of its own.
  EXECUTE format('SELECT array_agg(uid) FROM (
    SELECT e.uid FROM crucible.evaluations e WHERE e.finished_at < $1 %s
      AND NOT EXISTS (SELECT FROM crucible.captures c WHERE c.evaluation_uid = e.uid AND c.state = ''following'')
    ORDER BY e.finished_at LIMIT least(greatest($2, 1), 1000) FOR UPDATE OF e SKIP LOCKED) oldest',
    CASE class WHEN 'records' THEN '' ELSE format('AND e.%I IS NULL', class || '_deleted_at') END)
    INTO runs USING before, batch;
  IF runs IS NULL THEN
    PERFORM set_config('crucible.retention', 'off', true);
    RETURN 0;
  END IF;
  IF class = 'records' THEN
    DELETE FROM crucible.submissions WHERE uid = ANY (runs);
    DELETE FROM crucible.evaluations WHERE uid = ANY (runs);
  ELSE
    -- The timeline tells of what there was.
    IF class = 'output' THEN
      SELECT array_agg(DISTINCT evaluation_uid) INTO told FROM crucible.output_chunks WHERE evaluation_uid = ANY (runs);
      UPDATE crucible.evaluations SET output_deleted_at = now() WHERE uid = ANY (runs);
      DELETE FROM crucible.output_chunks WHERE evaluation_uid = ANY (runs);
    ELSE
      SELECT array_agg(DISTINCT evaluation_uid) INTO told FROM crucible.artifacts WHERE evaluation_uid = ANY (runs) AND complete;
      UPDATE crucible.evaluations SET artifacts_deleted_at = now() WHERE uid = ANY (runs);
    END IF;
    FOREACH run IN ARRAY coalesce(told, '{}') LOOP
      PERFORM crucible.append_event(run, 'retention.' || class || 'Deleted', '{}');
    END LOOP;
  END IF;
  PERFORM set_config('crucible.retention', 'off', true);
  RETURN cardinality(runs);
END $$;
