-- Suites: what was asked for, which Evaluation is which run of which cell, how each of them ended, and how many passed.
-- Their own copy of each run's end: retention may delete a run, and the suite's numbers must not change with it.

CREATE TABLE crucible.suites (
  uid uuid PRIMARY KEY,
  namespace text NOT NULL,
  -- A namespace recreated under an old name has another UID and inherits nothing.
  namespace_uid uuid NOT NULL,
  name text NOT NULL,
  generation bigint NOT NULL,
  -- json, not jsonb, as in evaluations.
  spec json NOT NULL,
  labels jsonb NOT NULL DEFAULT '{}',
  phase text NOT NULL CHECK (phase <> ''),
  -- Why it ended so; with finished_at.
  reason text,
  message text,
  -- Cells times samples.
  total integer NOT NULL CHECK (total >= 1),
  -- As in the status of the resource: counts and pass rates of all runs.
  summary jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  event_seq bigint NOT NULL DEFAULT 0,
  epoch bigint NOT NULL CHECK (epoch >= 0),
  CHECK ((finished_at IS NULL) = (reason IS NULL)),
  CHECK ((finished_at IS NULL) = (message IS NULL))
);
CREATE INDEX suites_by_time ON crucible.suites (created_at DESC, uid DESC);
CREATE INDEX suites_by_namespace ON crucible.suites (namespace_uid, created_at DESC, uid DESC);
CREATE INDEX suites_unfinished ON crucible.suites (uid) WHERE finished_at IS NULL;
CREATE INDEX suites_finished ON crucible.suites (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE crucible.suite_cells (
  suite_uid uuid NOT NULL REFERENCES crucible.suites ON DELETE CASCADE,
  cell integer NOT NULL CHECK (cell >= 1),
  parameters jsonb NOT NULL,
  summary jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (suite_uid, cell)
);

CREATE TABLE crucible.suite_runs (
  suite_uid uuid NOT NULL,
  cell integer NOT NULL,
  sample integer NOT NULL CHECK (sample >= 1),
  -- No foreign key: its own row comes later, and may go earlier.
  evaluation_uid uuid NOT NULL UNIQUE,
  evaluation_name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  outcome text CHECK (outcome IN ('Passed', 'Failed', 'InfrastructureFailed', 'Cancelled')),
  -- Null with an outcome: it was deleted before anything was recorded of it.
  verdict_class text,
  attempts integer CHECK (attempts >= 0),
  finished_at timestamptz,
  PRIMARY KEY (suite_uid, cell, sample),
  FOREIGN KEY (suite_uid, cell) REFERENCES crucible.suite_cells ON DELETE CASCADE,
  CHECK ((outcome IS NULL) = (finished_at IS NULL)),
  CHECK ((outcome IS NULL) = (attempts IS NULL)),
  CHECK (outcome IS NOT NULL OR verdict_class IS NULL)
);

-- The timeline of a suite. Not on the event bus, whose events belong to evaluations: those of its runs are there.
CREATE TABLE crucible.suite_events (
  suite_uid uuid NOT NULL REFERENCES crucible.suites ON DELETE CASCADE,
  seq bigint NOT NULL CHECK (seq >= 1),
  type text NOT NULL CHECK (type ~ '^[a-z][A-Za-z]*(\.[a-z][A-Za-z]*)+$' AND length(type) <= 100),
  data jsonb NOT NULL DEFAULT '{}',
  at timestamptz NOT NULL,
  PRIMARY KEY (suite_uid, seq)
);

-- The only way to write one, as append_event is for evaluations.
CREATE FUNCTION crucible.append_suite_event(suite uuid, event_type text, event_data jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  next_seq bigint;
BEGIN
  UPDATE crucible.suites SET event_seq = event_seq + 1 WHERE uid = suite RETURNING event_seq INTO next_seq;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no suite % to append an event to', suite USING ERRCODE = '23503';
  END IF;
  INSERT INTO crucible.suite_events (suite_uid, seq, type, data, at)
    VALUES (suite, next_seq, event_type, event_data, clock_timestamp());
  RETURN next_seq;
END $$;

-- ------------------------------------------------------------------------------------------------ what is final stays
CREATE FUNCTION crucible.guard_suite() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (NEW.uid, NEW.namespace, NEW.namespace_uid, NEW.name, NEW.total, NEW.created_at, NEW.accepted_at)
     IS DISTINCT FROM (OLD.uid, OLD.namespace, OLD.namespace_uid, OLD.name, OLD.total, OLD.created_at, OLD.accepted_at) THEN
    RAISE EXCEPTION 'the identity of a suite never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF OLD.finished_at IS NOT NULL AND
     (NEW.generation, NEW.spec::text, NEW.labels, NEW.phase, NEW.reason, NEW.message, NEW.summary, NEW.finished_at)
     IS DISTINCT FROM
     (OLD.generation, OLD.spec::text, OLD.labels, OLD.phase, OLD.reason, OLD.message, OLD.summary, OLD.finished_at) THEN
    RAISE EXCEPTION 'a finished suite never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF NEW.epoch < OLD.epoch OR NEW.event_seq NOT IN (OLD.event_seq, OLD.event_seq + 1) THEN
    RAISE EXCEPTION 'epoch and event_seq only go forward' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON crucible.suites FOR EACH ROW EXECUTE FUNCTION crucible.guard_suite();

-- For everything that hangs on a suite. FOR SHARE waits for an end that is under way.
CREATE FUNCTION crucible.guard_suite_part() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  finished timestamptz;
BEGIN
  SELECT finished_at INTO finished FROM crucible.suites WHERE uid = NEW.suite_uid FOR SHARE;
  IF finished IS NOT NULL THEN
    RAISE EXCEPTION 'a finished suite never changes' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard_finished BEFORE INSERT OR UPDATE ON crucible.suite_cells
  FOR EACH ROW EXECUTE FUNCTION crucible.guard_suite_part();
CREATE TRIGGER guard_finished BEFORE INSERT OR UPDATE ON crucible.suite_runs
  FOR EACH ROW EXECUTE FUNCTION crucible.guard_suite_part();

CREATE FUNCTION crucible.guard_suite_run() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF OLD.outcome IS NOT NULL OR
     (NEW.suite_uid, NEW.cell, NEW.sample, NEW.evaluation_uid, NEW.evaluation_name, NEW.created_at)
     IS DISTINCT FROM (OLD.suite_uid, OLD.cell, OLD.sample, OLD.evaluation_uid, OLD.evaluation_name, OLD.created_at) THEN
    RAISE EXCEPTION 'the run of a suite ends once and is always the same evaluation' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON crucible.suite_runs FOR EACH ROW EXECUTE FUNCTION crucible.guard_suite_run();

CREATE FUNCTION crucible.guard_suite_event() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'an event never changes' USING ERRCODE = 'CRU01';
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON crucible.suite_events FOR EACH ROW EXECUTE FUNCTION crucible.guard_suite_event();

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['suites', 'suite_cells', 'suite_runs', 'suite_events'] LOOP
    EXECUTE format('CREATE TRIGGER guard_delete BEFORE DELETE ON crucible.%I
                    FOR EACH ROW EXECUTE FUNCTION crucible.guard_delete()', name);
    EXECUTE format('CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON crucible.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION crucible.guard_delete()', name);
  END LOOP;
END $$;

-- Retention of whole records, beside `expire`, which does it for runs.
CREATE FUNCTION crucible.expire_suites(older_than interval, batch integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  old uuid[];
BEGIN
  IF older_than IS NULL OR older_than < interval '1 day' THEN
    RAISE EXCEPTION 'nothing is deleted before it is a day old' USING ERRCODE = '22023';
  END IF;
  SELECT array_agg(uid) INTO old FROM (
    SELECT uid FROM crucible.suites WHERE finished_at < now() - older_than
    ORDER BY finished_at LIMIT least(greatest(batch, 1), 1000) FOR UPDATE SKIP LOCKED) oldest;
  IF old IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM set_config('crucible.retention', 'on', true);
  DELETE FROM crucible.suites WHERE uid = ANY (old);
  PERFORM set_config('crucible.retention', 'off', true);
  RETURN cardinality(old);
END $$;
