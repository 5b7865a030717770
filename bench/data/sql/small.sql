-- Many small tables: what counts is what each statement costs, not the rows.
DO $tables$
DECLARE
  tables CONSTANT int := bench.rows(2000);
BEGIN
  FOR n IN 1..tables LOOP
    EXECUTE format('CREATE TABLE public.part_%s (id integer NOT NULL, part integer, name text NOT NULL, price numeric(10,2),
                    changed_at timestamptz NOT NULL)', n);
    -- 2 to 100 rows.
    EXECUTE format('INSERT INTO public.part_%s
                    SELECT i, CASE WHEN bench.draw(i, %1$s, 3) > 0 THEN 1 END, bench.word(i, %1$s) || '' '' || bench.phrase(i, %1$s),
                           bench.draw(i, 200000 + %1$s, 100000) / 100.0, bench.moment(i, %1$s)
                    FROM generate_series(1, 2 + bench.draw(%1$s, 201, 99)) AS i', n);
    EXECUTE format('ALTER TABLE public.part_%s ADD PRIMARY KEY (id)', n);
    EXECUTE format('CREATE INDEX part_%s_name ON public.part_%1$s (name)', n);
    IF n % 3 = 0 THEN
      EXECUTE format('ALTER TABLE public.part_%s ADD FOREIGN KEY (part) REFERENCES public.part_%s (id)', n, n - 1);
    END IF;
  END LOOP;
END
$tables$;
