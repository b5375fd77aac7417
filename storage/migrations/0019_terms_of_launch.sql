-- An attempt's row is written before its Job, and hours may pass between the two (a quota, a closed gate, an operator that
-- dies): what is launched then is what the runtime says by then. Until there is a Job the row follows that, and from then on
-- its terms never change: a receipt is compared with them.
CREATE OR REPLACE FUNCTION crucible.guard_attempt() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF OLD.state = 'finalized' THEN
    RAISE EXCEPTION 'a finalized attempt never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF (NEW.evaluation_uid, NEW.number, NEW.job_name, NEW.created_at)
     IS DISTINCT FROM (OLD.evaluation_uid, OLD.number, OLD.job_name, OLD.created_at)
     OR (OLD.job_uid IS NOT NULL AND NEW.job_uid IS DISTINCT FROM OLD.job_uid)
     OR (OLD.pod_uid IS NOT NULL AND NEW.pod_uid IS DISTINCT FROM OLD.pod_uid)
     OR NEW.epoch < OLD.epoch THEN
    RAISE EXCEPTION 'the identity of an attempt never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF (OLD.job_uid IS NOT NULL OR OLD.state <> 'created')
     AND (NEW.image, NEW.runtime_class, NEW.timeout_seconds, NEW.accepted_risks::text, NEW.inputs::text)
       IS DISTINCT FROM (OLD.image, OLD.runtime_class, OLD.timeout_seconds, OLD.accepted_risks::text, OLD.inputs::text) THEN
    RAISE EXCEPTION 'what an attempt was launched with never changes' USING ERRCODE = 'CRU01';
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
