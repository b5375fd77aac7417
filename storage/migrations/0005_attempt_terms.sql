-- What an attempt was allowed and why its start was given up are said here and nowhere else: annotations in the cluster
-- may be written by whoever may edit Jobs, and the pod's status forgets why it was ended before its code started.
ALTER TABLE crucible.attempts
  ADD COLUMN timeout_seconds integer CHECK (timeout_seconds > 0),
  -- The verdict with which the operator gave up on the start, written before it ends the pod. Not final: the code may
  -- start in the same moment, and then it is judged by what became of it.
  ADD COLUMN ending jsonb;

-- As in 0001, with the allowed time among what never changes.
CREATE OR REPLACE FUNCTION crucible.guard_attempt() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF OLD.state = 'finalized' THEN
    RAISE EXCEPTION 'a finalized attempt never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF (NEW.evaluation_uid, NEW.number, NEW.job_name, NEW.created_at, NEW.timeout_seconds)
     IS DISTINCT FROM (OLD.evaluation_uid, OLD.number, OLD.job_name, OLD.created_at, OLD.timeout_seconds)
     OR (OLD.job_uid IS NOT NULL AND NEW.job_uid IS DISTINCT FROM OLD.job_uid)
     OR (OLD.pod_uid IS NOT NULL AND NEW.pod_uid IS DISTINCT FROM OLD.pod_uid)
     OR NEW.epoch < OLD.epoch THEN
    RAISE EXCEPTION 'the identity of an attempt never changes' USING ERRCODE = 'CRU01';
  END IF;
  -- The recorder may have begun first; both take the attempt's row lock, so one of them sees the other.
  IF NEW.pod_uid IS DISTINCT FROM OLD.pod_uid AND EXISTS (
    SELECT FROM crucible.captures
    WHERE evaluation_uid = NEW.evaluation_uid AND attempt = NEW.number AND pod_uid <> NEW.pod_uid
  ) THEN
    RAISE EXCEPTION 'the attempt''s output is captured from another pod' USING ERRCODE = 'CRU02';
  END IF;
  RETURN NEW;
END $$;
