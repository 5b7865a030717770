-- The guide's verification queries, as they stand in it.
SELECT max(version) FROM schema_migrations;
SELECT count(*) FROM organizations WHERE is_principal;
SELECT count(*) FROM opportunities WHERE contact_ids = '{}';
SELECT max(changed_at) FROM audit_log;
SELECT count(*) FROM contacts;
