-- The record of every evaluation. Everything that must never be wrong is enforced here, by constraints, triggers and
-- grants (grants.sql), so that a bug or a stolen password of one process cannot rewrite what happened.
--
-- Conventions: times are timestamptz, sizes are bytes, sequence numbers start at 1.
-- SQLSTATE CRU01 is raised when a final row would change, CRU02 when output would be stored under another pod's attempt.

-- ------------------------------------------------------------------------------------------------ evaluations
CREATE TABLE crucible.evaluations (
  uid uuid PRIMARY KEY,
  namespace text NOT NULL,
  -- A namespace recreated under an old name has another UID and inherits nothing.
  namespace_uid uuid NOT NULL,
  name text NOT NULL,
  generation bigint NOT NULL,
  -- json, not jsonb: kept verbatim. jsonb refuses "\u0000", which is legal in the code of a spec, and reorders keys.
  spec json NOT NULL,
  labels jsonb NOT NULL DEFAULT '{}',
  phase text NOT NULL CHECK (phase <> ''),
  verdict jsonb,
  passed boolean,
  created_at timestamptz NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  accepted_attempt integer,
  -- The number of the newest event: incremented under this row's lock, hence gapless (a sequence is not).
  event_seq bigint NOT NULL DEFAULT 0,
  -- The highest lease epoch that has written this row: a leader paused past its lease is refused afterwards.
  epoch bigint NOT NULL CHECK (epoch >= 0),
  CHECK ((finished_at IS NULL) = (verdict IS NULL)),
  CHECK (passed IS NULL OR finished_at IS NOT NULL)
);
CREATE INDEX evaluations_by_name ON crucible.evaluations (namespace, name, created_at DESC);
CREATE INDEX evaluations_by_time ON crucible.evaluations (namespace_uid, created_at DESC, uid);
CREATE INDEX evaluations_unfinished ON crucible.evaluations (uid) WHERE finished_at IS NULL;

-- ------------------------------------------------------------------------------------------------ attempts
CREATE TABLE crucible.attempts (
  evaluation_uid uuid NOT NULL REFERENCES crucible.evaluations ON DELETE CASCADE,
  number integer NOT NULL CHECK (number >= 1),
  job_name text NOT NULL,
  job_uid uuid UNIQUE,
  pod_name text,
  pod_uid uuid UNIQUE,
  node text,
  runtime_class text,
  image text NOT NULL,
  image_digest text,
  -- Whether its output is captured is said by captures.state alone: a copy here would be a second truth.
  state text NOT NULL DEFAULT 'created' CHECK (state IN ('created', 'running', 'finalized')),
  epoch bigint NOT NULL CHECK (epoch >= 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz,
  finalized_at timestamptz,
  exit_code integer,
  signal text,
  verdict jsonb,
  PRIMARY KEY (evaluation_uid, number),
  CHECK ((state = 'finalized') = (finalized_at IS NOT NULL)),
  CHECK ((state = 'finalized') = (verdict IS NOT NULL))
);

ALTER TABLE crucible.evaluations ADD CONSTRAINT evaluations_accepted_attempt
  FOREIGN KEY (uid, accepted_attempt) REFERENCES crucible.attempts (evaluation_uid, number);

-- ------------------------------------------------------------------------------------------------ captured output
CREATE TABLE crucible.captures (
  evaluation_uid uuid NOT NULL,
  attempt integer NOT NULL,
  -- Kubernetes may start a program twice; exactly one pod's output belongs to an attempt.
  pod_uid uuid NOT NULL,
  recorder text NOT NULL,
  state text NOT NULL DEFAULT 'following' CHECK (state IN ('following', 'captured')),
  -- Every frame up to here is stored or listed in `missing`. Advanced by compare-and-set only.
  last_seq bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
  -- Which frames are missing is known for the attempt, not for a stream: a lost frame does not say which it was of.
  missing int8multirange NOT NULL DEFAULT '{}',
  started_at timestamptz NOT NULL DEFAULT now(),
  captured_at timestamptz,
  complete boolean,
  reason text,
  artifacts_complete boolean,
  -- Written by the sandbox: advisory, never the basis of a verdict.
  summary jsonb,
  receipt jsonb,
  PRIMARY KEY (evaluation_uid, attempt),
  FOREIGN KEY (evaluation_uid, attempt) REFERENCES crucible.attempts ON DELETE CASCADE,
  CHECK ((state = 'captured') = (captured_at IS NOT NULL)),
  CHECK ((state = 'captured') = (complete IS NOT NULL)),
  CHECK ((state = 'captured') = (artifacts_complete IS NOT NULL)),
  -- "Complete" with holes, and "incomplete" without a reason, are lies.
  CHECK (complete IS NOT TRUE OR (missing = '{}' AND reason IS NULL)),
  CHECK (complete IS NOT FALSE OR reason IS NOT NULL)
);
CREATE INDEX captures_following ON crucible.captures (evaluation_uid, attempt) WHERE state = 'following';

-- The ledger: one row a stream, growing while followed, final once captured.
CREATE TABLE crucible.streams (
  evaluation_uid uuid NOT NULL,
  attempt integer NOT NULL,
  stream text NOT NULL CHECK (stream IN ('stdout', 'stderr')),
  bytes bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
  lines bigint NOT NULL DEFAULT 0 CHECK (lines >= 0),
  gaps jsonb NOT NULL DEFAULT '[]',
  truncated boolean NOT NULL DEFAULT false,
  complete boolean NOT NULL DEFAULT false,
  -- What the program wrote, before the cap, as the launcher counted it (advisory).
  produced_bytes bigint CHECK (produced_bytes >= 0),
  -- Of the stored bytes, hex.
  sha256 text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  PRIMARY KEY (evaluation_uid, attempt, stream),
  FOREIGN KEY (evaluation_uid, attempt) REFERENCES crucible.captures ON DELETE CASCADE
);

CREATE TABLE crucible.output_chunks (
  evaluation_uid uuid NOT NULL,
  attempt integer NOT NULL,
  stream text NOT NULL CHECK (stream IN ('stdout', 'stderr')),
  first_seq bigint NOT NULL CHECK (first_seq >= 1),
  last_seq bigint NOT NULL,
  byte_offset bigint NOT NULL CHECK (byte_offset >= 0),
  lines bigint NOT NULL CHECK (lines >= 0),
  -- bytea: output may hold NUL and is not always UTF-8.
  data bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 65536),
  PRIMARY KEY (evaluation_uid, attempt, stream, first_seq),
  FOREIGN KEY (evaluation_uid, attempt) REFERENCES crucible.captures ON DELETE CASCADE,
  CHECK (last_seq >= first_seq)
);
CREATE INDEX output_chunks_by_offset ON crucible.output_chunks (evaluation_uid, attempt, stream, byte_offset);

CREATE TABLE crucible.artifacts (
  evaluation_uid uuid NOT NULL,
  attempt integer NOT NULL,
  index integer NOT NULL CHECK (index >= 0),
  -- Hostile data: shown, never opened. The content is in the file store under its sha256.
  path text NOT NULL,
  size bigint NOT NULL CHECK (size >= 0),
  sha256 text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  complete boolean NOT NULL,
  refused text,
  mode integer,
  PRIMARY KEY (evaluation_uid, attempt, index),
  FOREIGN KEY (evaluation_uid, attempt) REFERENCES crucible.captures ON DELETE CASCADE,
  CHECK (NOT complete OR (sha256 IS NOT NULL AND refused IS NULL))
);
-- For the sweep of the file store: is anything still pointing at this content?
CREATE INDEX artifacts_by_content ON crucible.artifacts (sha256) WHERE sha256 IS NOT NULL;

-- ------------------------------------------------------------------------------------------------ events
CREATE TABLE crucible.events (
  evaluation_uid uuid NOT NULL REFERENCES crucible.evaluations ON DELETE CASCADE,
  seq bigint NOT NULL CHECK (seq >= 1),
  type text NOT NULL CHECK (type ~ '^[a-z][A-Za-z]*(\.[a-z][A-Za-z]*)+$' AND length(type) <= 100),
  data jsonb NOT NULL DEFAULT '{}',
  at timestamptz NOT NULL,
  -- Given by the relay when it publishes: a database sequence is not commit order.
  position bigint,
  PRIMARY KEY (evaluation_uid, seq)
);
CREATE UNIQUE INDEX events_by_position ON crucible.events (position) WHERE position IS NOT NULL;
CREATE INDEX events_unpublished ON crucible.events (evaluation_uid, seq) WHERE position IS NULL;

-- The only way to write an event. It runs as the owner, so that no role needs to touch event_seq or insert into events,
-- and the numbering cannot have a gap whoever calls it.
CREATE FUNCTION crucible.append_event(evaluation uuid, event_type text, event_data jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  next_seq bigint;
BEGIN
  UPDATE crucible.evaluations SET event_seq = event_seq + 1 WHERE uid = evaluation RETURNING event_seq INTO next_seq;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no evaluation % to append an event to', evaluation USING ERRCODE = '23503';
  END IF;
  INSERT INTO crucible.events (evaluation_uid, seq, type, data, at)
    VALUES (evaluation, next_seq, event_type, event_data, clock_timestamp());
  PERFORM pg_notify('crucible_events', evaluation::text);
  RETURN next_seq;
END $$;

-- For the recorder: it reads attacker-controlled text all day, so it may tell of captures and nothing else.
CREATE FUNCTION crucible.append_capture_event(evaluation uuid, event_type text, event_data jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF event_type NOT LIKE 'capture.%' THEN
    RAISE EXCEPTION 'the recorder may not write events of type %', event_type USING ERRCODE = '42501';
  END IF;
  RETURN crucible.append_event(evaluation, event_type, event_data);
END $$;

-- ------------------------------------------------------------------------------------------------ what is final stays
CREATE FUNCTION crucible.guard_evaluation() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (NEW.uid, NEW.namespace, NEW.namespace_uid, NEW.name, NEW.created_at, NEW.accepted_at)
     IS DISTINCT FROM (OLD.uid, OLD.namespace, OLD.namespace_uid, OLD.name, OLD.created_at, OLD.accepted_at) THEN
    RAISE EXCEPTION 'the identity of an evaluation never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF OLD.finished_at IS NOT NULL AND
     (NEW.generation, NEW.spec::text, NEW.labels, NEW.phase, NEW.verdict, NEW.passed, NEW.finished_at, NEW.accepted_attempt)
     IS DISTINCT FROM
     (OLD.generation, OLD.spec::text, OLD.labels, OLD.phase, OLD.verdict, OLD.passed, OLD.finished_at, OLD.accepted_attempt)
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
CREATE TRIGGER guard BEFORE UPDATE ON crucible.evaluations FOR EACH ROW EXECUTE FUNCTION crucible.guard_evaluation();

CREATE FUNCTION crucible.guard_attempt() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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
  -- The recorder may have begun first; both take the attempt's row lock, so one of them sees the other.
  IF NEW.pod_uid IS DISTINCT FROM OLD.pod_uid AND EXISTS (
    SELECT FROM crucible.captures
    WHERE evaluation_uid = NEW.evaluation_uid AND attempt = NEW.number AND pod_uid <> NEW.pod_uid
  ) THEN
    RAISE EXCEPTION 'the attempt''s output is captured from another pod' USING ERRCODE = 'CRU02';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON crucible.attempts FOR EACH ROW EXECUTE FUNCTION crucible.guard_attempt();

-- Runs as the owner because it locks a row of attempts, which the recorder may only read.
CREATE FUNCTION crucible.guard_new_capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known_pod uuid;
BEGIN
  SELECT pod_uid INTO known_pod FROM crucible.attempts
    WHERE evaluation_uid = NEW.evaluation_uid AND number = NEW.attempt FOR SHARE;
  IF known_pod <> NEW.pod_uid THEN
    RAISE EXCEPTION 'the attempt belongs to another pod' USING ERRCODE = 'CRU02';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard_new BEFORE INSERT ON crucible.captures FOR EACH ROW EXECUTE FUNCTION crucible.guard_new_capture();

CREATE FUNCTION crucible.guard_capture() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF OLD.state = 'captured' THEN
    RAISE EXCEPTION 'a finished capture never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF (NEW.evaluation_uid, NEW.attempt, NEW.pod_uid, NEW.started_at)
     IS DISTINCT FROM (OLD.evaluation_uid, OLD.attempt, OLD.pod_uid, OLD.started_at) OR NEW.last_seq < OLD.last_seq THEN
    RAISE EXCEPTION 'a capture only goes forward' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON crucible.captures FOR EACH ROW EXECUTE FUNCTION crucible.guard_capture();

-- For everything that hangs on a capture. FOR SHARE waits for a finish that is under way.
CREATE FUNCTION crucible.guard_captured() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  capture_state text;
BEGIN
  SELECT state INTO capture_state FROM crucible.captures
    WHERE evaluation_uid = NEW.evaluation_uid AND attempt = NEW.attempt FOR SHARE;
  IF capture_state = 'captured' THEN
    RAISE EXCEPTION 'captured output never changes' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON crucible.streams FOR EACH ROW EXECUTE FUNCTION crucible.guard_captured();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON crucible.output_chunks
  FOR EACH ROW EXECUTE FUNCTION crucible.guard_captured();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON crucible.artifacts FOR EACH ROW EXECUTE FUNCTION crucible.guard_captured();

-- A chunk may move when a hole before it is filled; its bytes never change.
CREATE FUNCTION crucible.guard_chunk() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (NEW.evaluation_uid, NEW.attempt, NEW.stream, NEW.first_seq, NEW.last_seq, NEW.lines, NEW.data)
     IS DISTINCT FROM (OLD.evaluation_uid, OLD.attempt, OLD.stream, OLD.first_seq, OLD.last_seq, OLD.lines, OLD.data) THEN
    RAISE EXCEPTION 'stored output never changes' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard_bytes BEFORE UPDATE ON crucible.output_chunks FOR EACH ROW EXECUTE FUNCTION crucible.guard_chunk();

CREATE FUNCTION crucible.guard_event() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF OLD.position IS NOT NULL OR (NEW.evaluation_uid, NEW.seq, NEW.type, NEW.data, NEW.at)
     IS DISTINCT FROM (OLD.evaluation_uid, OLD.seq, OLD.type, OLD.data, OLD.at) THEN
    RAISE EXCEPTION 'an event never changes' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON crucible.events FOR EACH ROW EXECUTE FUNCTION crucible.guard_event();

-- Deleting is for retention alone, which says so: SET LOCAL crucible.retention = 'on'. No role has the right to delete;
-- this stops the owner's slip of the hand in psql.
CREATE FUNCTION crucible.guard_delete() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('crucible.retention', true) IS DISTINCT FROM 'on' THEN
    RAISE EXCEPTION 'crucible.% is a record: rows are deleted by retention only', TG_TABLE_NAME USING ERRCODE = 'CRU01';
  END IF;
  RETURN OLD;
END $$;
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['evaluations', 'attempts', 'captures', 'streams', 'output_chunks', 'artifacts', 'events'] LOOP
    EXECUTE format('CREATE TRIGGER guard_delete BEFORE DELETE ON crucible.%I
                    FOR EACH ROW EXECUTE FUNCTION crucible.guard_delete()', name);
    EXECUTE format('CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON crucible.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION crucible.guard_delete()', name);
  END LOOP;
END $$;
