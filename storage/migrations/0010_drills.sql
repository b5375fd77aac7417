-- What the drills found, kept as history: one row a drill of one RuntimeClass, one a finding. Written once, never changed.
CREATE TABLE crucible.drills (
  id uuid PRIMARY KEY,
  -- quick decides whether anything is admitted; full is every attack.
  kind text NOT NULL CHECK (kind IN ('quick', 'full')),
  -- Null: the cluster's default runtime.
  runtime_class text,
  -- Why it was run: start, change, retry, schedule, request, need.
  trigger text NOT NULL CHECK (length(trigger) BETWEEN 1 AND 64),
  outcome text NOT NULL CHECK (outcome IN ('held', 'broken', 'open')),
  -- Rules, not findings.
  held integer NOT NULL CHECK (held >= 0),
  broken integer NOT NULL CHECK (broken >= 0),
  open integer NOT NULL CHECK (open >= 0),
  started_at timestamptz NOT NULL,
  finished_at timestamptz NOT NULL,
  epoch bigint NOT NULL CHECK (epoch >= 0),
  CHECK (finished_at >= started_at),
  CHECK ((broken > 0) = (outcome = 'broken'))
);
CREATE INDEX drills_by_time ON crucible.drills (finished_at DESC, id);
CREATE INDEX drills_by_class ON crucible.drills (coalesce(runtime_class, ''), finished_at DESC);

CREATE TABLE crucible.drill_findings (
  drill_id uuid NOT NULL REFERENCES crucible.drills ON DELETE CASCADE,
  attack text NOT NULL CHECK (length(attack) BETWEEN 1 AND 64),
  rule integer NOT NULL CHECK (rule >= 1),
  outcome text NOT NULL CHECK (outcome IN ('held', 'broken', 'open')),
  -- Partly what a sandbox printed: data, shown as text.
  evidence text NOT NULL CHECK (length(evidence) <= 1024),
  PRIMARY KEY (drill_id, attack)
);

-- Which weaknesses of its sandbox an administrator had accepted when the attempt was made.
ALTER TABLE crucible.attempts ADD COLUMN accepted_risks jsonb;

-- While a class is broken its drill is repeated: what is older than 90 days goes, except the newest of each class.
CREATE FUNCTION crucible.expire_drills() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH gone AS (
    DELETE FROM crucible.drills d WHERE d.finished_at < now() - interval '90 days' AND EXISTS (
      SELECT FROM crucible.drills n
      WHERE coalesce(n.runtime_class, '') = coalesce(d.runtime_class, '') AND n.finished_at > d.finished_at)
    RETURNING 1)
  SELECT count(*) FROM gone
$$;
