-- A namespace that was disabled for a while was called gone, and stayed so when it was enabled again. Of each name that has
-- no present namespace the one that went last is present again; if it is really gone, the operator says so when it starts.
UPDATE crucible.namespaces n SET gone_at = NULL
FROM (SELECT DISTINCT ON (name) uid FROM crucible.namespaces ORDER BY name, gone_at DESC NULLS FIRST, first_seen_at DESC) last
WHERE n.uid = last.uid AND n.gone_at IS NOT NULL;
