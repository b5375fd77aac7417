-- Events by month, and why a submission waits.

-- ------------------------------------------------------------------------------------------------ partitions
-- A partition holds the events of all runs that were created in one month (UTC). Not the month of the event: so a run's events are in
-- one partition, which makes (evaluation_uid, seq) unique over all of them, because the foreign key allows a run one
-- created_at only (docs/adr/0010). What falls into no month's partition goes into events_default, so that no write ever
-- waits for a partition to be made.
ALTER TABLE crucible.evaluations ADD CONSTRAINT evaluations_created UNIQUE (uid, created_at);

ALTER TABLE crucible.events RENAME TO events_unpartitioned;
ALTER INDEX crucible.events_pkey RENAME TO events_unpartitioned_pkey;
DROP INDEX crucible.events_by_position, crucible.events_without_position;
ALTER SEQUENCE crucible.event_arrivals OWNED BY NONE;

CREATE TABLE crucible.events (
  evaluation_uid uuid NOT NULL,
  evaluation_created_at timestamptz NOT NULL,
  seq bigint NOT NULL CHECK (seq >= 1),
  type text NOT NULL CHECK (type ~ '^[a-z][A-Za-z]*(\.[a-z][A-Za-z]*)+$' AND length(type) <= 100),
  data jsonb NOT NULL DEFAULT '{}',
  at timestamptz NOT NULL,
  -- Given by assign_positions, to nobody else's choice: a database sequence is not commit order.
  position bigint,
  arrival bigint NOT NULL DEFAULT nextval('crucible.event_arrivals'),
  PRIMARY KEY (evaluation_uid, seq, evaluation_created_at),
  FOREIGN KEY (evaluation_uid, evaluation_created_at) REFERENCES crucible.evaluations (uid, created_at) ON DELETE CASCADE
) PARTITION BY RANGE (evaluation_created_at);
ALTER SEQUENCE crucible.event_arrivals OWNED BY crucible.events.arrival;
CREATE INDEX events_by_position ON crucible.events (position) WHERE position IS NOT NULL;
CREATE INDEX events_without_position ON crucible.events (arrival) WHERE position IS NULL;

-- A position must be beyond all that were given in earlier transactions, which the counter's lock orders; two in one
-- statement differ by row_number(). An index over all partitions that is unique in position alone cannot be had.
CREATE OR REPLACE FUNCTION crucible.guard_event() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF OLD.position IS NOT NULL
     OR (NEW.evaluation_uid, NEW.evaluation_created_at, NEW.seq, NEW.type, NEW.data, NEW.at, NEW.arrival)
     IS DISTINCT FROM (OLD.evaluation_uid, OLD.evaluation_created_at, OLD.seq, OLD.type, OLD.data, OLD.at, OLD.arrival) THEN
    RAISE EXCEPTION 'an event never changes' USING ERRCODE = 'CRU01';
  END IF;
  IF NEW.position <= (SELECT last_position FROM crucible.event_positions) THEN
    RAISE EXCEPTION 'a position is never given twice' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;

-- A partition with what the parent cannot give it: uniqueness of position inside, and the guard against TRUNCATE.
CREATE FUNCTION crucible.finish_event_partition(partition text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('CREATE UNIQUE INDEX %I ON crucible.%I (position) WHERE position IS NOT NULL', partition || '_position', partition);
  EXECUTE format('CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON crucible.%I
                  FOR EACH STATEMENT EXECUTE FUNCTION crucible.guard_delete()', partition);
END $$;

-- False when it exists, or when events_default holds events of that month already: then they stay there.
CREATE FUNCTION crucible.make_event_partition(month date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  first timestamptz := date_trunc('month', month);
  following timestamptz := first + interval '1 month';
  partition text := 'events_' || to_char(first, 'YYYY_MM');
BEGIN
  IF to_regclass('crucible.' || partition) IS NOT NULL
     OR EXISTS (SELECT FROM crucible.events_default WHERE evaluation_created_at >= first AND evaluation_created_at < following) THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE crucible.%I PARTITION OF crucible.events FOR VALUES FROM (%L) TO (%L)', partition, first, following);
  PERFORM crucible.finish_event_partition(partition);
  RETURN true;
END $$;

-- Called every hour by the recorder: partitions for three months ahead; and those of past months that retention has
-- emptied go. Gives up when somebody holds the table for longer than two seconds; the next call does it.
CREATE FUNCTION crucible.maintain_event_partitions(OUT made integer, OUT dropped integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
  ahead integer;
  partition text;
  is_empty boolean;
BEGIN
  made := 0;
  dropped := 0;
  PERFORM pg_advisory_xact_lock(hashtext('crucible.events'));
  FOR ahead IN 0..3 LOOP
    made := made + crucible.make_event_partition((date_trunc('month', now()) + make_interval(months => ahead))::date)::integer;
  END LOOP;
  FOR partition IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'crucible.events'::regclass AND c.relname < 'events_' || to_char(now(), 'YYYY_MM') AND c.relname ~ '^events_\d{4}_\d\d$'
  LOOP
    -- A look without a lock first: nearly all are full.
    EXECUTE format('SELECT NOT EXISTS (SELECT FROM crucible.%I)', partition) INTO is_empty;
    CONTINUE WHEN NOT is_empty;
    -- The parent first, as readers do.
    LOCK TABLE ONLY crucible.events IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('LOCK TABLE crucible.%I IN ACCESS EXCLUSIVE MODE', partition);
    EXECUTE format('SELECT NOT EXISTS (SELECT FROM crucible.%I)', partition) INTO is_empty;
    CONTINUE WHEN NOT is_empty;
    EXECUTE format('DROP TABLE crucible.%I', partition);
    dropped := dropped + 1;
  END LOOP;
END $$;

CREATE TABLE crucible.events_default PARTITION OF crucible.events DEFAULT;
SELECT crucible.finish_event_partition('events_default');
DO $$
DECLARE
  month timestamptz;
BEGIN
  SET LOCAL timezone = 'UTC';
  FOR month IN SELECT DISTINCT date_trunc('month', created_at) FROM crucible.evaluations
               UNION SELECT date_trunc('month', now()) + make_interval(months => ahead) FROM generate_series(0, 3) ahead LOOP
    PERFORM crucible.make_event_partition(month::date);
  END LOOP;
END $$;

INSERT INTO crucible.events (evaluation_uid, evaluation_created_at, seq, type, data, at, position, arrival)
  SELECT v.evaluation_uid, e.created_at, v.seq, v.type, v.data, v.at, v.position, v.arrival
  FROM crucible.events_unpartitioned v JOIN crucible.evaluations e ON e.uid = v.evaluation_uid;
DROP TABLE crucible.events_unpartitioned;

CREATE TRIGGER guard BEFORE UPDATE ON crucible.events FOR EACH ROW EXECUTE FUNCTION crucible.guard_event();
CREATE TRIGGER guard_delete BEFORE DELETE ON crucible.events FOR EACH ROW EXECUTE FUNCTION crucible.guard_delete();
CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON crucible.events FOR EACH STATEMENT EXECUTE FUNCTION crucible.guard_delete();

-- As in 0001, with the key of the partition.
CREATE OR REPLACE FUNCTION crucible.append_event(evaluation uuid, event_type text, event_data jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  next_seq bigint;
  created timestamptz;
BEGIN
  UPDATE crucible.evaluations SET event_seq = event_seq + 1 WHERE uid = evaluation RETURNING event_seq, created_at INTO next_seq, created;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no evaluation % to append an event to', evaluation USING ERRCODE = '23503';
  END IF;
  INSERT INTO crucible.events (evaluation_uid, evaluation_created_at, seq, type, data, at)
    VALUES (evaluation, created, next_seq, event_type, event_data, clock_timestamp());
  PERFORM pg_notify('crucible_events', evaluation::text);
  RETURN next_seq;
END $$;

-- As in 0002, with the key of the partition.
CREATE OR REPLACE FUNCTION crucible.assign_positions(batch integer, OUT assigned bigint, OUT last bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  base bigint;
BEGIN
  SELECT last_position INTO STRICT base FROM crucible.event_positions FOR UPDATE;
  UPDATE crucible.events e SET position = base + n.number
  FROM (
    SELECT evaluation_uid, seq, evaluation_created_at, row_number() OVER (ORDER BY arrival) AS number
    FROM (SELECT evaluation_uid, seq, evaluation_created_at, arrival FROM crucible.events
          WHERE position IS NULL ORDER BY arrival LIMIT least(greatest(batch, 1), 1000)) oldest
  ) n
  WHERE (e.evaluation_uid, e.seq, e.evaluation_created_at) = (n.evaluation_uid, n.seq, n.evaluation_created_at);
  GET DIAGNOSTICS assigned = ROW_COUNT;
  last := base + assigned;
  IF assigned > 0 THEN
    UPDATE crucible.event_positions SET last_position = last;
    PERFORM pg_notify('crucible_positions', last::text);
  END IF;
END $$;

-- ------------------------------------------------------------------------------------------------ submissions
-- What is refused has no row of evaluations: who submitted it is told why all the same.
ALTER TABLE crucible.submissions ADD COLUMN reason text CHECK (length(reason) <= 100),
  ADD COLUMN message text CHECK (length(message) <= 1024),
  ADD CHECK ((reason IS NULL) = (message IS NULL));

CREATE FUNCTION crucible.explain_submission(submission uuid, why text, what text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE crucible.submissions s SET reason = left(why, 100), message = left(what, 1024)
  WHERE s.uid = submission AND s.state = 'submitted' AND (s.reason, s.message) IS DISTINCT FROM (left(why, 100), left(what, 1024));
  RETURN FOUND;
END $$;
