-- Documents of 1 to 100 KB as text, as many small as large ones by order of magnitude: 21 KB on average. One table keeps
-- them parsed (jsonb), one as they came (json).
CREATE FUNCTION bench.document(i bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('number', i, 'customer', bench.word(i, 301), 'tags', jsonb_build_array(bench.word(i, 302), bench.word(i, 303)),
    'lines', jsonb_agg(jsonb_build_object('sku', md5((i * 1000 + line)::text), 'text', bench.phrase(i * 1000 + line, 304),
                                          'quantity', bench.draw(i * 1000 + line, 305, 500))))
  FROM generate_series(1, (9.3 * power(100, bench.draw(i, 306, 1000) / 1000.0))::int) AS line
$$;
CREATE TABLE public.documents (id bigint NOT NULL, kind text NOT NULL, body jsonb NOT NULL, created_at timestamptz NOT NULL);
INSERT INTO public.documents
SELECT i, (ARRAY['order', 'offer', 'invoice'])[1 + bench.draw(i, 307, 3)], bench.document(i), bench.moment(i, 308)
FROM generate_series(1, bench.rows(12000)) AS i;
CREATE TABLE public.messages (id bigint NOT NULL, document_id bigint NOT NULL, raw json NOT NULL, received_at timestamptz NOT NULL);
INSERT INTO public.messages
SELECT i, 1 + bench.draw(i, 309, bench.rows(12000)), bench.document(1000000 + i)::json, bench.moment(i, 310)
FROM generate_series(1, bench.rows(12000)) AS i;
ALTER TABLE public.documents ADD PRIMARY KEY (id);
ALTER TABLE public.messages ADD PRIMARY KEY (id);
CREATE INDEX documents_tags ON public.documents USING gin ((body -> 'tags'));
CREATE INDEX documents_customer ON public.documents ((body ->> 'customer'));
CREATE INDEX messages_document ON public.messages (document_id);
ALTER TABLE public.messages ADD FOREIGN KEY (document_id) REFERENCES public.documents (id);
