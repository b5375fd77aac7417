-- The newest finding of each attack that shows anything, by class: what is broken there keeps its class closed under a new
-- leader too. A drill in which an attack came to no result says nothing of it.
CREATE VIEW crucible.drill_knowledge AS
  SELECT DISTINCT ON (coalesce(d.runtime_class, ''), f.attack) f.drill_id, d.runtime_class, f.attack, f.rule, f.outcome, f.evidence
  FROM crucible.drills d JOIN crucible.drill_findings f ON f.drill_id = d.id
  WHERE f.outcome <> 'open'
  ORDER BY coalesce(d.runtime_class, ''), f.attack, d.finished_at DESC, d.id;

-- What is older than 90 days goes, except the newest of each class and what is still the newest word on an attack: without
-- the drill that showed a rule to hold again, an older one that found it broken would count.
CREATE OR REPLACE FUNCTION crucible.expire_drills() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH gone AS (
    DELETE FROM crucible.drills d WHERE d.finished_at < now() - interval '90 days' AND EXISTS (
      SELECT FROM crucible.drills n
      WHERE coalesce(n.runtime_class, '') = coalesce(d.runtime_class, '') AND n.finished_at > d.finished_at)
    AND NOT EXISTS (SELECT FROM crucible.drill_knowledge k WHERE k.drill_id = d.id)
    RETURNING 1)
  SELECT count(*) FROM gone
$$;
