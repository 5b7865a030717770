-- The roles that work in the CRM of a hosted project. The database belongs to the platform, so its settings are the roles'.

CREATE ROLE crm_app LOGIN;
CREATE ROLE crm_readonly LOGIN;
CREATE ROLE crm_anon LOGIN;
ALTER ROLE crm_app SET search_path = public, api;
ALTER ROLE crm_app SET app.tenant = 'acme';
