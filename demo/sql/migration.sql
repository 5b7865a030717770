-- 20260112093000_lead_scoring: the migration that should never have run. Each statement commits on its own, as
-- migration tools do; it "succeeds" and leaves wrong data.

-- chunk: new table
CREATE TABLE public.lead_scores (
    contact_id bigint PRIMARY KEY REFERENCES public.contacts (id),
    score integer NOT NULL,
    scored_at timestamptz NOT NULL DEFAULT now()
)

-- chunk: scores for everyone
INSERT INTO public.lead_scores (contact_id, score) SELECT id, 50 FROM public.contacts

-- chunk: new column
ALTER TABLE public.contacts ADD COLUMN lifecycle text NOT NULL DEFAULT 'lead'

-- chunk: new view
CREATE VIEW api.hot_leads AS
SELECT c.id, c.full_name, c.lifecycle, s.score FROM public.contacts c JOIN public.lead_scores s ON s.contact_id = c.id

-- chunk: a column dropped
ALTER TABLE public.organizations DROP COLUMN notes

-- chunk: every contact overwritten
UPDATE public.contacts SET phone = NULL, notes = 'normalized', lifecycle = 'customer'

-- chunk: a third of the opportunities deleted
DELETE FROM public.opportunities WHERE id % 3 = 0

-- chunk: a foreign key broken
ALTER TABLE public.opportunities DROP CONSTRAINT opportunities_contact_id_fkey

-- chunk: rows orphaned
UPDATE public.opportunities SET contact_id = 900000000 + id WHERE id % 7 = 1

-- chunk: the foreign key back, without looking
ALTER TABLE public.opportunities ADD CONSTRAINT opportunities_contact_id_fkey
    FOREIGN KEY (contact_id) REFERENCES public.contacts (id) NOT VALID

-- chunk: recorded
INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20260112093000', 'lead_scoring')
