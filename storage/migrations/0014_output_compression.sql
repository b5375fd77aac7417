-- Output is text, mostly: lz4 takes a quarter of the processor time of Postgres' own method for about its size. A server
-- that was built without lz4 keeps the old method. What is stored stays as it is, and is read as before.
DO $$
BEGIN
  ALTER TABLE crucible.output_chunks ALTER COLUMN data SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
  RAISE NOTICE 'this server has no lz4: storing output will take more of its processor time';
END $$;
