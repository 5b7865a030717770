-- Default privileges of this role for the whole database would change the privileges of what is restored. They are
-- taken back for the transaction, and :'again' makes them again at its end.
CREATE TEMP TABLE defaults AS
WITH given AS (SELECT d.defaclobjtype AS kind, a.grantee, a.privilege_type, a.is_grantable
               FROM pg_default_acl d, aclexplode(d.defaclacl) a
               WHERE d.defaclnamespace = 0 AND d.defaclrole = current_user::regrole AND d.defaclobjtype <> 'n'),
usual AS (SELECT d.defaclobjtype AS kind, a.grantee, a.privilege_type, a.is_grantable
          FROM pg_default_acl d, aclexplode(acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)) a
          WHERE d.defaclnamespace = 0 AND d.defaclrole = current_user::regrole AND d.defaclobjtype <> 'n')
SELECT true AS added, g.* FROM (SELECT * FROM given EXCEPT SELECT * FROM usual) g
UNION ALL SELECT false, u.* FROM (SELECT * FROM usual EXCEPT SELECT * FROM given) u;
CREATE TEMP VIEW changes AS
SELECT added, format('ALTER DEFAULT PRIVILEGES %%s %s ON %s %%s %s', privilege_type,
         CASE kind WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES' END,
         CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END) AS change,
       CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
FROM pg_temp.defaults;
SELECT format(change, CASE WHEN added THEN 'REVOKE' ELSE 'GRANT' END, CASE WHEN added THEN 'FROM' ELSE 'TO' END)
    || CASE WHEN added THEN '' ELSE option END FROM pg_temp.changes \gexec
