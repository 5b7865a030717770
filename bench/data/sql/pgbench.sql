-- What pgbench --initialize --scale=50 --foreign-keys makes, and a history as after some use.
CREATE TABLE public.pgbench_branches (bid integer NOT NULL, bbalance integer, filler character(88)) WITH (fillfactor = 100);
CREATE TABLE public.pgbench_tellers (tid integer NOT NULL, bid integer, tbalance integer, filler character(84)) WITH (fillfactor = 100);
CREATE TABLE public.pgbench_accounts (aid integer NOT NULL, bid integer, abalance integer, filler character(84)) WITH (fillfactor = 100);
CREATE TABLE public.pgbench_history (tid integer, bid integer, aid integer, delta integer, mtime timestamp, filler character(22));
INSERT INTO public.pgbench_branches SELECT i, 0, NULL FROM generate_series(1, bench.rows(50)) AS i;
INSERT INTO public.pgbench_tellers SELECT i, 1 + (i - 1) / 10, 0, NULL FROM generate_series(1, 10 * bench.rows(50)) AS i;
INSERT INTO public.pgbench_accounts SELECT i, 1 + mod(i, bench.rows(50)), 0, '' FROM generate_series(1, bench.rows(5000000)) AS i;
INSERT INTO public.pgbench_history
SELECT 1 + bench.draw(i, 501, 10 * bench.rows(50)), 1 + bench.draw(i, 502, bench.rows(50)), 1 + bench.draw(i, 503, bench.rows(5000000)),
       bench.draw(i, 504, 10001) - 5000, timestamp '2025-01-01 00:00:00' + i * interval '1 second', ''
FROM generate_series(1, bench.rows(500000)) AS i;
ALTER TABLE public.pgbench_branches ADD PRIMARY KEY (bid);
ALTER TABLE public.pgbench_tellers ADD PRIMARY KEY (tid);
ALTER TABLE public.pgbench_accounts ADD PRIMARY KEY (aid);
ALTER TABLE public.pgbench_tellers ADD FOREIGN KEY (bid) REFERENCES public.pgbench_branches (bid);
ALTER TABLE public.pgbench_accounts ADD FOREIGN KEY (bid) REFERENCES public.pgbench_branches (bid);
ALTER TABLE public.pgbench_history ADD FOREIGN KEY (bid) REFERENCES public.pgbench_branches (bid);
ALTER TABLE public.pgbench_history ADD FOREIGN KEY (tid) REFERENCES public.pgbench_tellers (tid);
ALTER TABLE public.pgbench_history ADD FOREIGN KEY (aid) REFERENCES public.pgbench_accounts (aid);
