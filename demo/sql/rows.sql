-- The rows of the CRM: every value is a function of the row's number and the seed, so the same seed gives the same
-- rows on every server. Runs once for each -- chunk, with :names bound by demo.crm.

-- chunk: organizations
INSERT INTO public.organizations
    (id, tenant, name, kind, website, primary_contact_id, settings, notes, created_at, updated_at)
OVERRIDING SYSTEM VALUE
SELECT i,
       CASE WHEN pg_temp.draw(i, 1, 50) = 0 THEN 'globex' ELSE 'acme' END,
       (ARRAY['Golden', 'Harbor', 'Summit', 'Prairie', 'Blue Ridge', 'Crescent', 'Maple', 'Northern', 'Café', 'Ålesund',
              'O''Brien''s', 'Müller'])[1 + pg_temp.draw(i, 2, 12)]
         || ' ' || (ARRAY['Foods', 'Provisions', 'Kitchens', 'Trading', 'Distribution', 'Hospitality', 'Farms', 'Imports'])
              [1 + pg_temp.draw(i, 3, 8)] || ' ' || i,
       (ARRAY['principal', 'distributor', 'customer', 'customer', 'customer', 'prospect', 'prospect'])
         [CASE WHEN i <= 40 THEN 1 ELSE 2 + pg_temp.draw(i, 4, 6) END]::public.organization_kind,
       CASE WHEN pg_temp.draw(i, 5, 4) > 0 THEN 'https://www.example-' || i || '.test/' END,
       CASE WHEN pg_temp.draw(i, 6, 3) > 0 THEN 1 + pg_temp.draw(i, 7, %(contacts)s) END,
       jsonb_build_object('segment', pg_temp.draw(i, 8, 9), 'terms', 'net ' || 15 * (1 + pg_temp.draw(i, 9, 4)),
                          'newsletter', pg_temp.draw(i, 10, 2) = 0),
       CASE WHEN pg_temp.draw(i, 11, 5) = 0 THEN E'Delivery:\tback door\nAsk for \\"Sam\\"; path C:\\orders\\' || i END,
       pg_temp.moment(i, 12), pg_temp.moment(i, 12)
FROM generate_series(1, %(organizations)s) AS i

-- chunk: organization_principals
INSERT INTO public.organization_principals (organization_id, principal_id, since)
SELECT i, 1 + pg_temp.draw(i, 20, 40), pg_temp.moment(i, 21)::date
FROM generate_series(41, %(organizations)s) AS i

-- chunk: contacts
INSERT INTO public.contacts
    (id, tenant, organization_id, first_name, last_name, email, phone, custom, notes, last_contacted_at, created_at, updated_at)
SELECT i,
       CASE WHEN pg_temp.draw(i, 30, 50) = 0 THEN 'globex' ELSE 'acme' END,
       CASE WHEN pg_temp.draw(i, 31, 20) > 0 THEN 1 + pg_temp.draw(i, 32, %(organizations)s) END,
       (ARRAY['Ana', 'Ben', 'Chloé', 'Dmitri', 'Elif', 'Farid', 'Grace', 'Hiro', 'Inês', 'Jürgen', 'Kaja', 'Li',
              'Maja', 'Noor', 'Óscar', 'Priya'])[1 + pg_temp.draw(i, 33, 16)],
       (ARRAY['Álvarez', 'Brown', 'Chen', 'Dubois', 'Eriksen', 'Fischer', 'García', 'Haddad', 'Ito', 'Jansen',
              'Kowalski', 'Lindqvist', 'Moreau', 'Nguyễn', 'O''Neill', 'Patel', '陳', 'Smith'])[1 + pg_temp.draw(i, 34, 18)],
       CASE WHEN pg_temp.draw(i, 35, 12) > 0 THEN 'contact' || i || '@example-' || pg_temp.draw(i, 36, 997) || '.test' END,
       CASE WHEN pg_temp.draw(i, 37, 3) > 0 THEN '+1-555-' || to_char(pg_temp.draw(i, 38, 10000000), 'FM0000000') END,
       jsonb_build_object('language', (ARRAY['en', 'de', 'fr', 'es', 'zh'])[1 + pg_temp.draw(i, 39, 5)],
                          'score', pg_temp.draw(i, 40, 1000) / 10.0, 'linkedin', 'in/' || md5(i::text)),
       CASE pg_temp.draw(i, 41, 8) WHEN 0 THEN '' WHEN 1 THEN E'met at fair\r\nstand ' || i WHEN 2 THEN E'tab\there \\N' END,
       CASE WHEN pg_temp.draw(i, 42, 2) = 0 THEN pg_temp.moment(i, 43) END,
       pg_temp.moment(i, 44), pg_temp.moment(i, 44)
FROM generate_series(1, %(contacts)s) AS i

-- chunk: opportunities
INSERT INTO public.opportunities
    (id, organization_id, contact_id, name, stage, amount, probability, expected_close, details, created_at, updated_at)
SELECT i,
       1 + pg_temp.draw(i, 50, %(organizations)s),
       CASE WHEN pg_temp.draw(i, 51, 10) > 0 THEN 1 + pg_temp.draw(i, 52, %(contacts)s) END,
       (ARRAY['Frozen', 'Organic', 'Bulk', 'Seasonal', 'Private label'])[1 + pg_temp.draw(i, 53, 5)] || ' order ' || i,
       (enum_range(NULL::public.deal_stage))[1 + pg_temp.draw(i, 54, 6)],
       pg_temp.draw(i, 55, 25000000) / 100.0,
       5 * pg_temp.draw(i, 56, 21),
       CASE WHEN pg_temp.draw(i, 57, 6) > 0 THEN date '2025-03-01' + pg_temp.draw(i, 58, 400)::int END,
       CASE WHEN pg_temp.draw(i, 59, 3) = 0
            THEN jsonb_build_object('cases', pg_temp.draw(i, 60, 500), 'lines', jsonb_build_array(i, md5(i::text))) END,
       pg_temp.moment(i, 61), pg_temp.moment(i, 61)
FROM generate_series(1, %(opportunities)s) AS i

-- chunk: activities
INSERT INTO public.activities (id, contact_id, kind, subject, body, occurred_at)
SELECT i,
       1 + pg_temp.draw(i, 70, %(contacts)s),
       (enum_range(NULL::public.activity_kind))[1 + pg_temp.draw(i, 71, 5)],
       (ARRAY['Follow-up', 'Price list', 'Sample feedback', 'Contract', 'Introduction'])[1 + pg_temp.draw(i, 72, 5)]
         || ' #' || pg_temp.draw(i, 73, 100000),
       CASE WHEN pg_temp.draw(i, 74, 3) > 0
            THEN 'Spoke about ' || repeat(md5(i::text) || ' ', 1 + pg_temp.draw(i, 75, 5)::int) END,
       pg_temp.moment(i, 76)
FROM generate_series(1, %(activities)s) AS i

-- chunk: tags
INSERT INTO public.tags (id, name, color)
SELECT i, 'tag ' || i || CASE WHEN i = 13 THEN ' ☕' ELSE '' END, '#' || substr(md5((i + %(seed)s)::text), 1, 6)
FROM generate_series(1, 40) AS i

-- chunk: contact_tags
INSERT INTO public.contact_tags (contact_id, tag_id)
SELECT 1 + mod(i, %(contacts)s), 1 + mod(i / %(contacts)s * 7 + pg_temp.draw(mod(i, %(contacts)s), 80, 40), 40)
FROM generate_series(0, %(contact_tags)s - 1) AS i

-- chunk: record_version
INSERT INTO audit.record_version (id, table_name, record_id, op, record, actor, ts)
OVERRIDING SYSTEM VALUE
SELECT i, 'public.opportunities', i, 'INSERT',
       jsonb_build_object('id', i, 'amount', pg_temp.draw(i, 55, 25000000) / 100.0, 'source', 'import'),
       'crm_app', pg_temp.moment(i, 61)
FROM generate_series(1, %(opportunities)s) AS i

-- chunk: schema_migrations
INSERT INTO supabase_migrations.schema_migrations (version, statements, name)
VALUES ('20250106101500', ARRAY['CREATE TABLE organizations ()', 'CREATE TABLE contacts ()'], 'init'),
       ('20250211084200', ARRAY['ALTER TABLE organizations DROP COLUMN is_principal'], 'principals_are_organizations'),
       ('20250519160000', ARRAY['CREATE TABLE activities () PARTITION BY RANGE (occurred_at)'], 'activities_by_month'),
       ('20251203120000', NULL, 'audit_log')

-- chunk: positions
SELECT setval(pg_get_serial_sequence('public.organizations', 'id'), %(organizations)s),
       setval(pg_get_serial_sequence('public.contacts', 'id'), %(contacts)s),
       setval(pg_get_serial_sequence('public.opportunities', 'id'), %(opportunities)s),
       setval(pg_get_serial_sequence('public.activities', 'id'), %(activities)s),
       setval(pg_get_serial_sequence('public.tags', 'id'), 40),
       setval(pg_get_serial_sequence('audit.record_version', 'id'), %(opportunities)s)
