-- The newest runs of all namespaces together, with each of the ways to find some of them: those who may list in the whole
-- cluster had every namespace read that ever was, and their number only grows. As in 0006, read backwards.
CREATE INDEX evaluations_newest ON crucible.evaluations (created_at, uid);
CREATE INDEX evaluations_newest_by_phase ON crucible.evaluations (phase, created_at, uid);
CREATE INDEX evaluations_newest_by_verdict ON crucible.evaluations ((verdict ->> 'class'), created_at, uid) WHERE verdict IS NOT NULL;
CREATE INDEX evaluation_labels_newest ON crucible.evaluation_labels (label, created_at, uid);
-- Those that have not ended, in the order of the lists, whether they have a place or not. They are few.
CREATE INDEX evaluations_unfinished_newest ON crucible.evaluations (created_at, uid, namespace_uid) WHERE finished_at IS NULL;
