-- The verification queries of the guide, word for word as somebody wrote them when the schema was another one.
SELECT version FROM schema_migrations ORDER BY version DESC LIMIT 1;
SELECT count(*) AS principals FROM organizations WHERE is_principal;
SELECT count(*) AS orphans FROM contacts c LEFT JOIN opportunities o ON o.id = c.opportunity_id WHERE o.id IS NULL;
SELECT max(created_at) FROM audit_log;
SELECT 'Verification complete' AS status;
