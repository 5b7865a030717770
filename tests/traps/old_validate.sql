-- The validation before the migration: it keeps its results in the database that it validates.
CREATE TABLE public.validation_results (id serial PRIMARY KEY, check_name text, failed bigint, at timestamptz DEFAULT now());
INSERT INTO public.validation_results (check_name, failed)
SELECT 'contacts without organization', count(*) FROM contacts WHERE organization_id IS NULL;
INSERT INTO public.validation_results (check_name, failed)
SELECT 'companies without name', count(*) FROM companies WHERE name IS NULL;
