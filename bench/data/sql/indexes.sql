-- Middling tables that are mostly indexes: 10 each besides the primary key, and 13 foreign keys between them.
DO $tables$
DECLARE
  rows CONSTANT bigint := bench.rows(200000);
BEGIN
  FOR n IN 1..8 LOOP
    EXECUTE format('CREATE TABLE public.ledger_%s (id bigint NOT NULL, first_id bigint, second_id bigint, code text NOT NULL, name text NOT NULL,
                    amount numeric(12,2) NOT NULL, quantity integer NOT NULL, booked_at timestamptz NOT NULL, day date NOT NULL)', n);
    EXECUTE format('INSERT INTO public.ledger_%s
                    SELECT i, 1 + bench.draw(i, 400 + %1$s, %2$s), 1 + bench.draw(i, 410 + %1$s, %2$s),
                           substr(md5((i * 10 + %1$s)::text), 1, 12), bench.word(i, 420 + %1$s) || '' '' || bench.phrase(i, 430 + %1$s),
                           bench.draw(i, 440 + %1$s, 10000000) / 100.0, bench.draw(i, 450 + %1$s, 1000),
                           bench.moment(i, 460 + %1$s), bench.moment(i, 470 + %1$s)::date
                    FROM generate_series(1, %2$s) AS i', n, rows);
    EXECUTE format('ALTER TABLE public.ledger_%s ADD PRIMARY KEY (id)', n);
    EXECUTE format('CREATE INDEX ledger_%s_first ON public.ledger_%1$s (first_id)', n);
    EXECUTE format('CREATE INDEX ledger_%s_second ON public.ledger_%1$s (second_id)', n);
    EXECUTE format('CREATE UNIQUE INDEX ledger_%s_code ON public.ledger_%1$s (code, id)', n);
    EXECUTE format('CREATE INDEX ledger_%s_name ON public.ledger_%1$s (name)', n);
    EXECUTE format('CREATE INDEX ledger_%s_name_lower ON public.ledger_%1$s (lower(name))', n);
    EXECUTE format('CREATE INDEX ledger_%s_amount ON public.ledger_%1$s (amount)', n);
    EXECUTE format('CREATE INDEX ledger_%s_booked ON public.ledger_%1$s (booked_at)', n);
    EXECUTE format('CREATE INDEX ledger_%s_day_quantity ON public.ledger_%1$s (day, quantity)', n);
    EXECUTE format('CREATE INDEX ledger_%s_large ON public.ledger_%1$s (quantity) WHERE quantity > 900', n);
    EXECUTE format('CREATE INDEX ledger_%s_day ON public.ledger_%1$s USING brin (day)', n);
    IF n > 1 THEN
      EXECUTE format('ALTER TABLE public.ledger_%s ADD FOREIGN KEY (first_id) REFERENCES public.ledger_%s (id)', n, n - 1);
    END IF;
    IF n > 2 THEN
      EXECUTE format('ALTER TABLE public.ledger_%s ADD FOREIGN KEY (second_id) REFERENCES public.ledger_%s (id)', n, n - 2);
    END IF;
  END LOOP;
END
$tables$;
