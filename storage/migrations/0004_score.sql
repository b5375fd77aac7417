-- Scoring is done once: why the output passed or did not is kept beside the answer, and later readers take it from here.
ALTER TABLE crucible.evaluations ADD COLUMN passed_reason text, ADD COLUMN passed_message text,
  ADD CHECK (passed_reason IS NULL OR passed IS NOT NULL),
  ADD CHECK ((passed_reason IS NULL) = (passed_message IS NULL));

-- A new leader asks for the highest epoch that has written anything, in case the lease that counted them is gone.
CREATE INDEX evaluations_by_epoch ON crucible.evaluations (epoch);

-- As in 0001, with the reason among what is final.
CREATE OR REPLACE FUNCTION crucible.guard_evaluation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (NEW.uid, NEW.namespace, NEW.namespace_uid, NEW.name, NEW.created_at, NEW.accepted_at)
     IS DISTINCT FROM (OLD.uid, OLD.namespace, OLD.namespace_uid, OLD.name, OLD.created_at, OLD.accepted_at) THEN
    RAISE EXCEPTION 'the identity of an evaluation never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF OLD.finished_at IS NOT NULL AND
     (NEW.generation, NEW.spec::text, NEW.labels, NEW.phase, NEW.verdict, NEW.passed, NEW.passed_reason,
      NEW.passed_message, NEW.finished_at, NEW.accepted_attempt)
     IS DISTINCT FROM
     (OLD.generation, OLD.spec::text, OLD.labels, OLD.phase, OLD.verdict, OLD.passed, OLD.passed_reason,
      OLD.passed_message, OLD.finished_at, OLD.accepted_attempt)
  THEN
    RAISE EXCEPTION 'a finished evaluation never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF NEW.accepted_attempt IS DISTINCT FROM OLD.accepted_attempt THEN
    IF OLD.accepted_attempt IS NOT NULL THEN
      RAISE EXCEPTION 'an evaluation has one accepted attempt' USING ERRCODE = 'CRU01';
    END IF;
    IF NOT EXISTS (SELECT FROM crucible.attempts
                   WHERE evaluation_uid = NEW.uid AND number = NEW.accepted_attempt AND state = 'finalized') THEN
      RAISE EXCEPTION 'only a finalized attempt can be accepted' USING ERRCODE = 'CRU01';
    END IF;
  END IF;
  IF NEW.epoch < OLD.epoch OR NEW.event_seq NOT IN (OLD.event_seq, OLD.event_seq + 1) THEN
    RAISE EXCEPTION 'epoch and event_seq only go forward' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
