-- What was recorded while it could run may be refused afterwards: its runtime is deleted, its namespace not configured any more.
-- It waits for nobody then, and nobody for it. As its status says; only what is Queued can be.
ALTER TABLE crucible.evaluations ADD COLUMN refused boolean NOT NULL DEFAULT false;
CREATE INDEX evaluations_refused ON crucible.evaluations (namespace_uid, created_at) WHERE refused AND finished_at IS NULL AND attempts = 0;

-- As in 0006, without them: the order of the queue is read from it alone.
DROP INDEX crucible.evaluations_waiting;
CREATE INDEX evaluations_waiting ON crucible.evaluations (created_at, namespace_uid, priority, uid, name)
  WHERE finished_at IS NULL AND attempts = 0 AND NOT refused;
