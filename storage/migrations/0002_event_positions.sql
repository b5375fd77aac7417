-- Events get their global position in the order in which they arrived, from one counter and from nobody else.

-- Within an evaluation arrival follows seq, because both are given under that evaluation's row lock. Not `at`: a clock
-- may be set back. Across evaluations it is nearly the order of time; it is not the order of commits, hence `position`.
CREATE SEQUENCE crucible.event_arrivals;
ALTER TABLE crucible.events ADD COLUMN arrival bigint;
-- `guard` compares only what an event says; it has to be told that this update is not one of them.
ALTER TABLE crucible.events DISABLE TRIGGER guard;
UPDATE crucible.events e SET arrival = o.arrival
FROM (
  SELECT evaluation_uid, seq, row_number() OVER (ORDER BY latest, evaluation_uid, seq) AS arrival
  FROM (SELECT evaluation_uid, seq, max(at) OVER (PARTITION BY evaluation_uid ORDER BY seq) AS latest FROM crucible.events) x
) o
WHERE (e.evaluation_uid, e.seq) = (o.evaluation_uid, o.seq);
ALTER TABLE crucible.events ENABLE TRIGGER guard;
SELECT setval('crucible.event_arrivals', (SELECT coalesce(max(arrival), 0) + 1 FROM crucible.events), false);
ALTER TABLE crucible.events ALTER COLUMN arrival SET DEFAULT nextval('crucible.event_arrivals'),
  ALTER COLUMN arrival SET NOT NULL;
ALTER SEQUENCE crucible.event_arrivals OWNED BY crucible.events.arrival;

DROP INDEX crucible.events_unpublished;
CREATE INDEX events_without_position ON crucible.events (arrival) WHERE position IS NULL;

-- One row. Its lock makes positions dense and increasing, however many relays there are; retention may delete the event
-- that had the highest position, so it cannot be looked up.
CREATE TABLE crucible.event_positions (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  last_position bigint NOT NULL CHECK (last_position >= 0)
);
INSERT INTO crucible.event_positions (last_position) SELECT coalesce(max(position), 0) FROM crucible.events;

CREATE FUNCTION crucible.guard_positions() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' OR NEW.last_position < OLD.last_position THEN
    RAISE EXCEPTION 'a position is never given twice' USING ERRCODE = 'CRU01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON crucible.event_positions
  FOR EACH ROW EXECUTE FUNCTION crucible.guard_positions();

-- The only way to give positions: who may call it cannot choose them. At most `batch` of the committed events that have
-- none, oldest first; tells listeners up to where. Read committed: what is selected after the lock sees all that was
-- numbered before it.
CREATE FUNCTION crucible.assign_positions(batch integer, OUT assigned bigint, OUT last bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  base bigint;
BEGIN
  SELECT last_position INTO STRICT base FROM crucible.event_positions FOR UPDATE;
  UPDATE crucible.events e SET position = base + n.number
  FROM (
    SELECT evaluation_uid, seq, row_number() OVER (ORDER BY arrival) AS number
    FROM (SELECT evaluation_uid, seq, arrival FROM crucible.events
          WHERE position IS NULL ORDER BY arrival LIMIT least(greatest(batch, 1), 1000)) oldest
  ) n
  WHERE (e.evaluation_uid, e.seq) = (n.evaluation_uid, n.seq);
  GET DIAGNOSTICS assigned = ROW_COUNT;
  last := base + assigned;
  IF assigned > 0 THEN
    UPDATE crucible.event_positions SET last_position = last;
    PERFORM pg_notify('crucible_positions', last::text);
  END IF;
END $$;
