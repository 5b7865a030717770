SET statement_timeout = '4500ms';
SET idle_in_transaction_session_timeout = '5s';
SET synchronous_commit = local;
SELECT set_config('guide.live', :'live', false) a, set_config('guide.kept', :'kept', false) b,
       set_config('guide.leaving', :'leaving', false) c, set_config('guide.arriving', :'arriving', false) d \gset ignored_
BEGIN;
DO $$
BEGIN
  IF NOT pg_try_advisory_xact_lock({{lock}}) THEN
    RAISE EXCEPTION 'cannot undo: a run of lastgood is in progress on this database; run lastgood status';
  END IF;
  IF EXISTS (SELECT FROM pg_database
             WHERE oid = current_setting('guide.arriving')::oid AND datname = current_setting('guide.live')) THEN
    RAISE EXCEPTION 'cannot undo: the replaced database is already live';
  END IF;
  IF (SELECT count(*) FROM pg_database
      WHERE (oid, datname) IN ((current_setting('guide.leaving')::oid, current_setting('guide.live')::name),
                               (current_setting('guide.arriving')::oid, current_setting('guide.kept')::name))) <> 2 THEN
    RAISE EXCEPTION 'cannot undo: a database was renamed or replaced since the block swap';
  END IF;
END $$;
ALTER DATABASE :"live" RENAME TO :"undone";
ALTER DATABASE :"undone" ALLOW_CONNECTIONS false;
ALTER DATABASE :"kept" RENAME TO :"live";
ALTER DATABASE :"live" ALLOW_CONNECTIONS true;
COMMIT;
