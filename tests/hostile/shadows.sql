-- A search path in which every name of the server that commands could use leads to code: functions, operators, types and
-- relations. Each does what the server's own does.
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
CREATE FUNCTION hostile.make(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
  NULL; -- a pseudo-type of the server, say
END $$;

SELECT count(hostile.make(pg_catalog.format(
  'CREATE FUNCTION hostile.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$BEGIN PERFORM {home}.vol(%L); RETURN %s pg_catalog.%I(%s);'
  ' END$f$', proname, pg_catalog.pg_get_function_identity_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid),
  proname, CASE WHEN proretset THEN 'QUERY SELECT * FROM' ELSE '' END, proname,
  (SELECT pg_catalog.string_agg('$' || i, ', ') FROM pg_catalog.generate_series(1, pronargs) i))))
FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND proargmodes IS NULL
AND proname IN (
  'array_length', 'array_to_string', 'btrim', 'coalesce', 'current_database', 'current_setting', 'date_trunc', 'format',
  'format_type', 'has_database_privilege', 'has_schema_privilege', 'has_table_privilege', 'json_build_object', 'length',
  'left', 'like', 'lower', 'make_interval', 'md5', 'now', 'obj_description', 'oidvectortypes', 'pg_backend_pid',
  'pg_database_size', 'pg_encoding_to_char', 'pg_get_constraintdef', 'pg_get_expr', 'pg_get_functiondef',
  'pg_get_indexdef', 'pg_get_triggerdef', 'pg_get_userbyid', 'pg_get_viewdef', 'pg_has_role', 'pg_is_in_recovery',
  'pg_relation_size', 'pg_size_pretty', 'pg_table_size', 'pg_total_relation_size', 'quote_ident', 'quote_literal',
  'regexp_replace', 'replace', 'row_security_active', 'set_config', 'shobj_description', 'split_part', 'starts_with',
  'string_to_array', 'substr', 'substring', 'to_char', 'to_regclass', 'txid_current', 'unnest', 'upper', 'version'
);

SELECT count(hostile.make(pg_catalog.format(
  'CREATE FUNCTION hostile.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$BEGIN PERFORM {home}.vol(%L);'
  ' RETURN $1 OPERATOR(pg_catalog.%s) $2; END$f$', 'op_' || o.oid, pg_catalog.format_type(oprleft, NULL),
  pg_catalog.format_type(oprright, NULL), pg_catalog.format_type(oprresult, NULL), oprname, oprname)))
+ count(hostile.make(pg_catalog.format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.%I)',
  oprname, pg_catalog.format_type(oprleft, NULL), pg_catalog.format_type(oprright, NULL), 'op_' || o.oid)))
FROM pg_operator o WHERE oprkind = 'b'
AND oprname IN ('=', '<>', '<', '>', '<=', '>=', '||', '~', '!~', '~~', '!~~', '->', '->>', '+', '-', '*', '/', '&&', '@>');

SELECT count(hostile.make(pg_catalog.format('CREATE DOMAIN hostile.%I AS pg_catalog.%I CHECK ({home}.vol(%L) > 0)', typname,
                                            typname, typname)))
FROM pg_type WHERE typname IN ('text', 'name', 'oid', 'regclass', 'regrole', 'regnamespace', 'jsonb', '_text', '_oid');

SELECT count(hostile.make(pg_catalog.format(
  'CREATE VIEW hostile.%I AS SELECT * FROM pg_catalog.%I WHERE {home}.vol(%L) > 0', relname, relname, relname)))
+ count(hostile.make(pg_catalog.format('GRANT SELECT ON hostile.%I TO PUBLIC', relname)))
FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'pg_statistic';

DO $$ BEGIN
  EXECUTE pg_catalog.format('ALTER DATABASE %I SET search_path = hostile, pg_catalog', pg_catalog.current_database());
END $$;
