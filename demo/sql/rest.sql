-- Keys, indexes, views, functions, triggers, policies and grants of the CRM. Runs as crm_owner after the rows.

ALTER TABLE public.organizations ADD PRIMARY KEY (id);
ALTER TABLE public.organization_principals ADD PRIMARY KEY (organization_id, principal_id);
ALTER TABLE public.contacts ADD PRIMARY KEY (id);
ALTER TABLE public.opportunities ADD PRIMARY KEY (id);
ALTER TABLE public.activities ADD PRIMARY KEY (id, occurred_at);
ALTER TABLE public.tags ADD PRIMARY KEY (id), ADD UNIQUE (name);
ALTER TABLE public.contact_tags ADD PRIMARY KEY (contact_id, tag_id);
ALTER TABLE audit.record_version ADD PRIMARY KEY (id);

CREATE INDEX contacts_organization ON public.contacts (organization_id);
CREATE UNIQUE INDEX contacts_email ON public.contacts (lower(email)) WHERE email IS NOT NULL;
CREATE INDEX opportunities_organization ON public.opportunities (organization_id);
CREATE INDEX opportunities_open ON public.opportunities (expected_close, stage) WHERE stage NOT IN ('won', 'lost');
CREATE INDEX activities_contact ON public.activities (contact_id, occurred_at DESC);
CREATE UNIQUE INDEX activities_reference ON public.activities_default (reference) WHERE reference IS NOT NULL;
CREATE INDEX record_version_record ON audit.record_version (table_name, record_id);

-- Organizations refer to their first contact, contacts to their organization: a circle.
ALTER TABLE public.organizations ADD CONSTRAINT organizations_primary_contact_id_fkey
    FOREIGN KEY (primary_contact_id) REFERENCES public.contacts (id) ON DELETE SET NULL DEFERRABLE INITIALLY IMMEDIATE;
ALTER TABLE public.contacts ADD CONSTRAINT contacts_organization_id_fkey
    FOREIGN KEY (organization_id) REFERENCES public.organizations (id);
ALTER TABLE public.organization_principals
    ADD FOREIGN KEY (organization_id) REFERENCES public.organizations (id) ON DELETE CASCADE,
    ADD FOREIGN KEY (principal_id) REFERENCES public.organizations (id);
ALTER TABLE public.opportunities
    ADD CONSTRAINT opportunities_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES public.organizations (id),
    ADD CONSTRAINT opportunities_contact_id_fkey FOREIGN KEY (contact_id) REFERENCES public.contacts (id);
ALTER TABLE public.activities ADD CONSTRAINT activities_contact_id_fkey
    FOREIGN KEY (contact_id) REFERENCES public.contacts (id);
ALTER TABLE public.contact_tags
    ADD FOREIGN KEY (contact_id) REFERENCES public.contacts (id) ON DELETE CASCADE,
    ADD FOREIGN KEY (tag_id) REFERENCES public.tags (id);

-- Grouped by a primary key: it depends on the key's constraint, and pg_dump has to split it.
CREATE VIEW api.organization_overview AS
SELECT o.id, o.name, o.kind, count(c.id) AS contacts, max(c.last_contacted_at) AS last_contacted_at
FROM public.organizations o
LEFT JOIN public.contacts c ON c.organization_id = o.id
GROUP BY o.id;

-- In a circle with a function that takes its row type.
CREATE VIEW api.open_deals AS
SELECT id, name, stage, amount, probability, NULL::numeric AS weighted
FROM public.opportunities WHERE stage NOT IN ('won', 'lost');
CREATE FUNCTION api.weighted(deal api.open_deals) RETURNS numeric
    LANGUAGE sql STABLE AS $$ SELECT round(deal.amount * deal.probability / 100, 2) $$;
CREATE OR REPLACE VIEW api.open_deals AS
SELECT id, name, stage, amount, probability,
       api.weighted(ROW(id, name, stage, amount, probability, NULL)::api.open_deals) AS weighted
FROM public.opportunities WHERE stage NOT IN ('won', 'lost');

CREATE VIEW api.my_contacts WITH (security_invoker = true) AS
SELECT id, full_name, email, custom ->> 'language' AS language FROM public.contacts;

CREATE MATERIALIZED VIEW api.monthly_pipeline AS
SELECT date_trunc('month', created_at, 'UTC') AS month, stage, count(*) AS deals, sum(amount) AS amount
FROM public.opportunities GROUP BY 1, 2;
CREATE UNIQUE INDEX monthly_pipeline_key ON api.monthly_pipeline (month, stage);

CREATE FUNCTION public.set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER set_updated_at BEFORE UPDATE ON public.organizations FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON public.contacts FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON public.opportunities FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();

CREATE FUNCTION audit.record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    relation text := TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO audit.record_version (table_name, record_id, op, record)
        SELECT relation, n.id, TG_OP, to_jsonb(n) FROM new_rows n;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO audit.record_version (table_name, record_id, op, record, old_record)
        SELECT relation, n.id, TG_OP, to_jsonb(n), to_jsonb(o) FROM new_rows n JOIN old_rows o USING (id);
    ELSE
        INSERT INTO audit.record_version (table_name, record_id, op, old_record)
        SELECT relation, o.id, TG_OP, to_jsonb(o) FROM old_rows o;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER audit_insert AFTER INSERT ON public.contacts
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record();
CREATE TRIGGER audit_update AFTER UPDATE ON public.contacts
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record();
CREATE TRIGGER audit_delete AFTER DELETE ON public.contacts
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record();
CREATE TRIGGER audit_insert AFTER INSERT ON public.opportunities
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record();
CREATE TRIGGER audit_update AFTER UPDATE ON public.opportunities
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record();
CREATE TRIGGER audit_delete AFTER DELETE ON public.opportunities
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION audit.record();

-- Every contact with its address, bypassing all policies: not for the public.
CREATE FUNCTION public.export_contacts() RETURNS TABLE (full_name text, email text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
    AS $$ SELECT full_name, email::text FROM public.contacts WHERE email IS NOT NULL $$;
REVOKE ALL ON FUNCTION public.export_contacts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.export_contacts() TO crm_app;
REVOKE ALL ON FUNCTION audit.record() FROM PUBLIC;

ALTER TABLE public.contacts ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.organizations ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON public.contacts TO crm_app, crm_readonly
    USING (tenant = current_setting('app.tenant', true)) WITH CHECK (tenant = current_setting('app.tenant', true));
CREATE POLICY own_tenant ON public.organizations TO crm_app, crm_readonly
    USING (tenant = current_setting('app.tenant', true)) WITH CHECK (tenant = current_setting('app.tenant', true));
CREATE POLICY principals_are_public ON public.organizations FOR SELECT TO crm_anon USING (kind = 'principal');

GRANT USAGE ON SCHEMA api TO crm_app, crm_readonly;
GRANT USAGE ON SCHEMA audit, supabase_migrations TO crm_readonly;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO crm_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO crm_app;
GRANT SELECT ON ALL TABLES IN SCHEMA api TO crm_app, crm_readonly;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO crm_readonly;
GRANT SELECT ON audit.record_version, supabase_migrations.schema_migrations TO crm_readonly;
GRANT SELECT (id, name, kind, website) ON public.organizations TO crm_anon;
GRANT EXECUTE ON FUNCTION api.weighted(api.open_deals) TO crm_app, crm_readonly;

ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO crm_readonly;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO crm_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO crm_app;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

COMMENT ON TABLE public.contacts IS 'People. Erasure requests: see "export_contacts".';
COMMENT ON COLUMN public.contacts.custom IS E'Free fields;\nchecked by the application';
COMMENT ON VIEW api.organization_overview IS 'Grouped by primary key';
COMMENT ON TYPE public.deal_stage IS 'In the order of the pipeline';
COMMENT ON TABLE audit.record_version IS 'Who changed what, and when';
