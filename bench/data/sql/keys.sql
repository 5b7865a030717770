-- Many tables with two foreign keys each, all of them to the same few: what counts is how they wait for each other.
DO $tables$
DECLARE
  tables CONSTANT int := bench.rows(2000);
  hubs CONSTANT int := 5;
BEGIN
  FOR n IN 0..tables - 1 LOOP
    EXECUTE format('CREATE TABLE public.entry_%s (id integer PRIMARY KEY, tenant integer, author integer)', n);
    EXECUTE format('INSERT INTO public.entry_%s VALUES (1, 1, 1)', n);
    EXECUTE format('CREATE INDEX ON public.entry_%s (tenant)', n);
    EXECUTE format('CREATE INDEX ON public.entry_%s (author)', n);
  END LOOP;
  FOR n IN 0..tables - 1 LOOP
    EXECUTE format('ALTER TABLE public.entry_%s ADD FOREIGN KEY (tenant) REFERENCES public.entry_%s', n, n % hubs);
    EXECUTE format('ALTER TABLE public.entry_%s ADD FOREIGN KEY (author) REFERENCES public.entry_%s', n, (n + 1) % hubs);
  END LOOP;
END
$tables$;
