-- What code of a restore point must not change before its owners are given.
CREATE FUNCTION public.honest() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT 'honest' $$;
CREATE TABLE public.honest_table (i int);
CREATE VIEW public.honest_view AS SELECT ''::text AS p;
INSERT INTO public.honest_table VALUES (1);
