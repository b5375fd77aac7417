-- What is not admitted has no row of evaluations: it is refused, or no sandbox is shown to hold it. Until now only what had come in
-- through the API was known all the same; what was applied to the cluster was "unknown" to whoever asked the API for it.
ALTER TABLE crucible.submissions
  -- Null: applied to the cluster; the API was not there.
  ALTER COLUMN submitted_by DROP NOT NULL,
  -- Its owner has to change something. Otherwise a reason is what it waits for.
  ADD COLUMN refused boolean NOT NULL DEFAULT false,
  ADD CHECK (NOT refused OR reason IS NOT NULL);
UPDATE crucible.submissions SET refused = true WHERE reason IS NOT NULL;

-- For the operator. False: the record has it, it is gone, or that was told already.
DROP FUNCTION crucible.explain_submission(uuid, text, text);
CREATE FUNCTION crucible.tell_not_admitted(run uuid, home text, home_uid uuid, called text, created timestamptz, why text, what text, is_refused boolean)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO crucible.submissions AS s (uid, namespace, namespace_uid, name, submitted_at, reason, message, refused)
    SELECT run, home, home_uid, called, created, left(why, 100), left(what, 1024), is_refused
    WHERE NOT EXISTS (SELECT FROM crucible.evaluations e WHERE e.uid = run)
  ON CONFLICT (uid) DO UPDATE SET reason = excluded.reason, message = excluded.message, refused = excluded.refused
    WHERE s.state = 'submitted' AND (s.reason, s.message, s.refused) IS DISTINCT FROM (excluded.reason, excluded.message, excluded.refused);
  RETURN FOUND;
END $$;

-- For the API: the operator may have told of it before. Who submitted something is written once.
CREATE FUNCTION crucible.record_submission(run uuid, home text, home_uid uuid, called text, who text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO crucible.submissions AS s (uid, namespace, namespace_uid, name, submitted_by) VALUES (run, home, home_uid, called, who)
  ON CONFLICT (uid) DO UPDATE SET submitted_by = excluded.submitted_by
    WHERE s.submitted_by IS NULL AND s.namespace_uid = excluded.namespace_uid AND s.name = excluded.name
$$;
