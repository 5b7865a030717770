-- Four tables of a CRM; most rows are activities, which came in order of time.
CREATE TABLE public.organizations (
  id bigint NOT NULL, name text NOT NULL, domain text NOT NULL, industry text, employees integer,
  settings jsonb NOT NULL, notes text, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
INSERT INTO public.organizations
SELECT i, initcap(bench.word(i, 1)) || ' ' || initcap(bench.word(i, 2)) || ' ' || i, bench.word(i, 3) || i || '.example',
       bench.word(i, 4), bench.draw(i, 5, 5000),
       jsonb_build_object('segment', bench.draw(i, 6, 9), 'terms', 'net ' || 15 * bench.draw(i, 7, 5), 'region', bench.word(i, 8)),
       bench.phrase(i, 9) || '. ' || bench.phrase(i, 10) || '.', bench.moment(i, 11), bench.moment(i, 12)
FROM generate_series(1, bench.rows(100000)) AS i;

CREATE TABLE public.contacts (
  id bigint NOT NULL, organization_id bigint, first_name text NOT NULL, last_name text NOT NULL, email text NOT NULL, phone text,
  custom jsonb NOT NULL, notes text, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
INSERT INTO public.contacts
SELECT i, CASE WHEN bench.draw(i, 21, 20) > 0 THEN 1 + bench.draw(i, 22, bench.rows(100000)) END,
       initcap(bench.word(i, 23)), initcap(bench.word(i, 24)), bench.word(i, 25) || '.' || i || '@' || bench.word(i, 26) || '.example',
       CASE WHEN bench.draw(i, 27, 3) > 0 THEN '+1-555-' || to_char(bench.draw(i, 28, 10000000), 'FM0000000') END,
       jsonb_build_object('language', bench.word(i, 29), 'score', bench.draw(i, 30, 1000), 'account', md5(i::text)),
       CASE WHEN bench.draw(i, 31, 2) > 0 THEN bench.phrase(i, 32) END, bench.moment(i, 33), bench.moment(i, 34)
FROM generate_series(1, bench.rows(1000000)) AS i;

CREATE TABLE public.opportunities (
  id bigint NOT NULL, organization_id bigint NOT NULL, name text NOT NULL, stage text NOT NULL, amount numeric(12,2) NOT NULL,
  probability smallint NOT NULL, expected_close date, details jsonb, notes text,
  created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
INSERT INTO public.opportunities
SELECT i, 1 + bench.draw(i, 41, bench.rows(100000)), initcap(bench.word(i, 42)) || ' ' || bench.word(i, 43) || ' ' || i,
       (ARRAY['lead', 'qualified', 'proposal', 'negotiation', 'won', 'lost'])[1 + bench.draw(i, 44, 6)],
       bench.draw(i, 45, 25000000) / 100.0, 5 * bench.draw(i, 46, 21), date '2025-03-01' + bench.draw(i, 47, 400)::int,
       jsonb_build_object('cases', bench.draw(i, 48, 500), 'reference', md5(i::text), 'source', bench.word(i, 49)),
       bench.phrase(i, 50) || '. ' || bench.phrase(i, 51) || '.', bench.moment(i, 52), bench.moment(i, 53)
FROM generate_series(1, bench.rows(750000)) AS i;

CREATE TABLE public.activities (
  id bigint NOT NULL, organization_id bigint NOT NULL, contact_id bigint NOT NULL, opportunity_id bigint, kind text NOT NULL,
  subject text NOT NULL, body text, duration numeric(6,2), details jsonb, happened_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL);
INSERT INTO public.activities
SELECT i, 1 + bench.draw(i, 61, bench.rows(100000)), 1 + bench.draw(i, 62, bench.rows(1000000)),
       CASE WHEN bench.draw(i, 63, 3) > 0 THEN 1 + bench.draw(i, 64, bench.rows(750000)) END,
       (ARRAY['call', 'mail', 'meeting', 'note', 'task'])[1 + bench.draw(i, 65, 5)], initcap(bench.word(i, 66)) || ' ' || bench.phrase(i, 67),
       CASE WHEN bench.draw(i, 68, 4) > 0 THEN bench.phrase(i, 69) || '. ' || bench.phrase(i, 70) || '. ' || bench.phrase(i, 75) END,
       bench.draw(i, 71, 12000) / 100.0, jsonb_build_object('channel', bench.word(i, 72), 'ref', bench.draw(i, 73, 1000000)),
       timestamptz '2020-01-01 00:00:00+00' + i * interval '50 seconds' + bench.draw(i, 74, 600000) * interval '1 millisecond',
       timestamptz '2020-01-01 00:15:00+00' + i * interval '50 seconds'
FROM generate_series(1, bench.rows(3000000)) AS i;

ALTER TABLE public.organizations ADD PRIMARY KEY (id);
ALTER TABLE public.contacts ADD PRIMARY KEY (id);
ALTER TABLE public.opportunities ADD PRIMARY KEY (id);
ALTER TABLE public.activities ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX organizations_domain ON public.organizations (domain);
CREATE INDEX contacts_organization ON public.contacts (organization_id);
CREATE INDEX contacts_email ON public.contacts (email);
CREATE INDEX opportunities_organization ON public.opportunities (organization_id);
CREATE INDEX activities_contact ON public.activities (contact_id);
CREATE INDEX activities_opportunity ON public.activities (opportunity_id);
CREATE INDEX activities_happened ON public.activities (happened_at);
ALTER TABLE public.contacts ADD FOREIGN KEY (organization_id) REFERENCES public.organizations (id);
ALTER TABLE public.opportunities ADD FOREIGN KEY (organization_id) REFERENCES public.organizations (id);
ALTER TABLE public.activities ADD FOREIGN KEY (organization_id) REFERENCES public.organizations (id);
ALTER TABLE public.activities ADD FOREIGN KEY (contact_id) REFERENCES public.contacts (id);
ALTER TABLE public.activities ADD FOREIGN KEY (opportunity_id) REFERENCES public.opportunities (id);
