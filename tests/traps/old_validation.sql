-- The old validation, run after the backup and before the migration.
CREATE TABLE IF NOT EXISTS public.migration_validation_results (name text, passed boolean, at timestamptz DEFAULT now());
INSERT INTO public.migration_validation_results (name, passed)
    SELECT 'every company has a name', count(*) = 0 FROM companies WHERE name IS NULL;
INSERT INTO public.migration_validation_results (name, passed)
    SELECT 'every contact has a name', count(*) = 0 FROM contacts WHERE full_name IS NULL;
