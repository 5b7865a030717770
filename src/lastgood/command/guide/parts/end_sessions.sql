-- Terminate the sessions of both databases while a rename waits for them; before that, they would reconnect.
SELECT set_config('guide.leaving', :'leaving', false) a, set_config('guide.arriving', :'arriving', false) b,
       set_config('guide.name', :'name', false) c \gset ignored_
DO $$
DECLARE
  over timestamptz := clock_timestamp() + interval '6 s';
  renaming int;
  other int;
BEGIN
  LOOP
    SELECT pid INTO renaming FROM pg_locks
    WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = current_setting('guide.leaving')::oid
      AND mode = 'AccessExclusiveLock' AND granted;
    IF renaming IS NOT NULL THEN
      PERFORM pg_stat_clear_snapshot();
      FOR other IN SELECT pid FROM pg_stat_activity
                   WHERE datid IN (current_setting('guide.leaving')::oid, current_setting('guide.arriving')::oid)
                     AND pid <> renaming AND pid <> pg_backend_pid() LOOP
        BEGIN
          PERFORM pg_terminate_backend(other);
        EXCEPTION WHEN insufficient_privilege THEN
          RAISE WARNING 'this role cannot terminate process %', other;
        END;
      END LOOP;
    END IF;
    EXIT WHEN clock_timestamp() > over OR NOT EXISTS (
      SELECT FROM pg_database
      WHERE oid = current_setting('guide.leaving')::oid AND datname = current_setting('guide.name'));
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$;
