-- What an attempt was given from ConfigMaps: [{path, configMap, key, bytes, sha256}]. Its own copy goes with it; the hash
-- stays. null: nothing, or a row from before it was recorded.
ALTER TABLE crucible.attempts ADD COLUMN inputs jsonb;
