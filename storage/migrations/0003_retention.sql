-- What may go, and what an evaluation namespace may keep in the file store.

-- The record says what is not there any more: rows of artifacts and the ledger stay when their bytes are deleted.
ALTER TABLE crucible.evaluations ADD COLUMN output_deleted_at timestamptz, ADD COLUMN artifacts_deleted_at timestamptz;
-- Retention looks only at what it has not done yet, oldest first.
CREATE INDEX evaluations_with_output ON crucible.evaluations (finished_at)
  WHERE finished_at IS NOT NULL AND output_deleted_at IS NULL;
CREATE INDEX evaluations_with_artifacts ON crucible.evaluations (finished_at)
  WHERE finished_at IS NOT NULL AND artifacts_deleted_at IS NULL;
CREATE INDEX evaluations_finished ON crucible.evaluations (finished_at) WHERE finished_at IS NOT NULL;

-- ------------------------------------------------------------------------------------------------ quota
-- Kept by triggers, because a sum over all artifacts of a namespace is too slow to ask for each run. By UID: a namespace
-- made again under an old name begins with nothing. Every row counts in full, also where two share their content.
CREATE TABLE crucible.artifact_usage (
  namespace_uid uuid PRIMARY KEY,
  bytes bigint NOT NULL CHECK (bytes >= 0),
  files bigint NOT NULL CHECK (files >= 0)
);
INSERT INTO crucible.artifact_usage (namespace_uid, bytes, files)
  SELECT e.namespace_uid, sum(a.size), count(*) FROM crucible.artifacts a JOIN crucible.evaluations e ON e.uid = a.evaluation_uid
  WHERE a.complete GROUP BY e.namespace_uid;

CREATE FUNCTION crucible.count_new_artifacts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO crucible.artifact_usage AS u (namespace_uid, bytes, files)
    SELECT e.namespace_uid, sum(n.size), count(*) FROM new_rows n JOIN crucible.evaluations e ON e.uid = n.evaluation_uid
    WHERE n.complete GROUP BY e.namespace_uid
    ON CONFLICT (namespace_uid) DO UPDATE SET bytes = u.bytes + excluded.bytes, files = u.files + excluded.files;
  RETURN NULL;
END $$;
CREATE TRIGGER count_new AFTER INSERT ON crucible.artifacts REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION crucible.count_new_artifacts();

-- When the content goes, and when the whole run goes (before it does, so that its artifacts are still there to count).
CREATE FUNCTION crucible.count_gone_artifacts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE crucible.artifact_usage u SET bytes = u.bytes - g.bytes, files = u.files - g.files
  FROM (SELECT coalesce(sum(size), 0) AS bytes, count(*) AS files FROM crucible.artifacts
        WHERE evaluation_uid = OLD.uid AND complete) g
  WHERE u.namespace_uid = OLD.namespace_uid;
  RETURN OLD;
END $$;
CREATE TRIGGER count_deleted BEFORE DELETE ON crucible.evaluations
  FOR EACH ROW WHEN (OLD.artifacts_deleted_at IS NULL) EXECUTE FUNCTION crucible.count_gone_artifacts();
CREATE TRIGGER count_expired AFTER UPDATE OF artifacts_deleted_at ON crucible.evaluations
  FOR EACH ROW WHEN (OLD.artifacts_deleted_at IS NULL AND NEW.artifacts_deleted_at IS NOT NULL)
  EXECUTE FUNCTION crucible.count_gone_artifacts();

-- What the evaluation's namespace uses, locked until the transaction ends: two runs that finish at once cannot both take
-- what is left for one.
CREATE FUNCTION crucible.lock_artifact_usage(evaluation uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner uuid;
  used bigint;
BEGIN
  SELECT namespace_uid INTO owner FROM crucible.evaluations WHERE uid = evaluation;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no evaluation %', evaluation USING ERRCODE = '23503';
  END IF;
  INSERT INTO crucible.artifact_usage (namespace_uid, bytes, files) VALUES (owner, 0, 0) ON CONFLICT DO NOTHING;
  SELECT bytes INTO used FROM crucible.artifact_usage WHERE namespace_uid = owner FOR UPDATE;
  RETURN used;
END $$;

-- ------------------------------------------------------------------------------------------------ retention
-- The recorder runs it and may not delete anything else. It cannot shorten the time below a day, whoever holds its
-- password: output and artifacts of a run stay that long at least. Returns how many runs it dealt with.
--   output     the bytes of both streams; the ledger stays
--   artifacts  the right of the content to be kept: the sweep of the file store then removes it; the rows stay
--   records    everything about the run
CREATE FUNCTION crucible.expire(class text, older_than interval, batch integer) RETURNS integer
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
  -- What is still captured, an older attempt for instance, is not finished for us. Not one statement for the three: each
  -- has an index of its own.
  EXECUTE format('SELECT array_agg(uid) FROM (
    SELECT e.uid FROM crucible.evaluations e WHERE e.finished_at < $1 %s
      AND NOT EXISTS (SELECT FROM crucible.captures c WHERE c.evaluation_uid = e.uid AND c.state = ''following'')
    ORDER BY e.finished_at LIMIT least(greatest($2, 1), 1000) FOR UPDATE OF e SKIP LOCKED) oldest',
    CASE class WHEN 'records' THEN '' ELSE format('AND e.%I IS NULL', class || '_deleted_at') END)
    INTO runs USING before, batch;
  IF runs IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM set_config('crucible.retention', 'on', true);
  IF class = 'records' THEN
    DELETE FROM crucible.evaluations WHERE uid = ANY (runs);
  ELSE
    -- The timeline tells of what there was.
    IF class = 'output' THEN
      SELECT array_agg(DISTINCT evaluation_uid) INTO told FROM crucible.output_chunks WHERE evaluation_uid = ANY (runs);
      DELETE FROM crucible.output_chunks WHERE evaluation_uid = ANY (runs);
      UPDATE crucible.evaluations SET output_deleted_at = now() WHERE uid = ANY (runs);
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
