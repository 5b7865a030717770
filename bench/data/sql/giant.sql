-- One table that is all of the database: nothing to do side by side but parts of it.
CREATE TABLE public.events (
  id bigint NOT NULL, account_id bigint NOT NULL, kind text NOT NULL, subject text NOT NULL, body text,
  amount numeric(12,2), details jsonb NOT NULL, happened_at timestamptz NOT NULL);
INSERT INTO public.events
SELECT i, 1 + bench.draw(i, 101, bench.rows(200000)),
       (ARRAY['created', 'opened', 'changed', 'merged', 'closed'])[1 + bench.draw(i, 102, 5)],
       initcap(bench.word(i, 103)) || ' ' || bench.phrase(i, 104),
       CASE WHEN bench.draw(i, 105, 4) > 0
            THEN bench.phrase(i, 106) || '. ' || bench.phrase(i, 107) || '. ' || bench.phrase(i, 108) END,
       bench.draw(i, 109, 1000000) / 100.0,
       jsonb_build_object('channel', bench.word(i, 110), 'ref', bench.draw(i, 111, 1000000)),
       timestamptz '2020-01-01 00:00:00+00' + i * interval '40 seconds'
         + bench.draw(i, 112, 600000) * interval '1 millisecond'
FROM generate_series(1, bench.rows(4750000)) AS i;
ALTER TABLE public.events ADD PRIMARY KEY (id);
CREATE INDEX events_account ON public.events (account_id);
CREATE INDEX events_happened ON public.events (happened_at);
