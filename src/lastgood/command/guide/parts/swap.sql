-- Bounded: while this is open, nobody can log in to the live database.
SET statement_timeout = '4500ms';
SET idle_in_transaction_session_timeout = '5s';
SET synchronous_commit = local;
SELECT set_config('guide.live', :'live', false) a, set_config('guide.shadow', :'shadow', false) b,
       set_config('guide.leaving', :'leaving', false) c, set_config('guide.arriving', :'arriving', false) d \gset ignored_
BEGIN;
DO $$
BEGIN
  IF NOT pg_try_advisory_xact_lock({{lock}}) THEN
    RAISE EXCEPTION 'cannot switch: lastgood is at work on this database; look at lastgood status';
  END IF;
  IF EXISTS (SELECT FROM pg_database
             WHERE oid = current_setting('guide.arriving')::oid AND datname = current_setting('guide.live')) THEN
    RAISE EXCEPTION 'cannot switch: that is done already (block verify)';
  END IF;
  IF (SELECT count(*) FROM pg_database
      WHERE (oid, datname) IN ((current_setting('guide.leaving')::oid, current_setting('guide.live')::name),
                               (current_setting('guide.arriving')::oid, current_setting('guide.shadow')::name))) <> 2 THEN
    RAISE EXCEPTION 'cannot switch: the databases are not those of the block create; somebody renamed or replaced one';
  END IF;
END $$;
ALTER DATABASE :"live" RENAME TO :"kept";
ALTER DATABASE :"kept" ALLOW_CONNECTIONS false;
ALTER DATABASE :"shadow" RENAME TO :"live";
\set state :work '/state.sql'
\i :state
-- The commit is the moment of the switch: before it nothing has happened, after it everything has.
COMMIT;
