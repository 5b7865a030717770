-- Bounded: while this transaction is open, logins to the live database wait.
SET statement_timeout = '4500ms';
SET idle_in_transaction_session_timeout = '5s';
SET synchronous_commit = local;
SELECT set_config('guide.live', :'live', false) a, set_config('guide.shadow', :'shadow', false) b,
       set_config('guide.leaving', :'leaving', false) c, set_config('guide.arriving', :'arriving', false) d \gset ignored_
BEGIN;
DO $$
BEGIN
  IF NOT pg_try_advisory_xact_lock({{lock}}) THEN
    RAISE EXCEPTION 'cannot switch: a run of lastgood is in progress on this database; run lastgood status';
  END IF;
  IF EXISTS (SELECT FROM pg_database
             WHERE oid = current_setting('guide.arriving')::oid AND datname = current_setting('guide.live')) THEN
    RAISE EXCEPTION 'cannot switch: the names are already switched (block verify)';
  END IF;
  IF (SELECT count(*) FROM pg_database
      WHERE (oid, datname) IN ((current_setting('guide.leaving')::oid, current_setting('guide.live')::name),
                               (current_setting('guide.arriving')::oid, current_setting('guide.shadow')::name))) <> 2 THEN
    RAISE EXCEPTION 'cannot switch: a database was renamed or replaced since the block create';
  END IF;
END $$;
ALTER DATABASE :"live" RENAME TO :"kept";
ALTER DATABASE :"kept" ALLOW_CONNECTIONS false;
ALTER DATABASE :"shadow" RENAME TO :"live";
\set state :work '/state.sql'
\i :state
-- The commit is the moment of the switch.
COMMIT;
