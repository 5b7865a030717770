"""Names in PostgreSQL's notation: quoting, the identity texts of types and functions, and its own schemas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pglast import keywords

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")
# quote_ident() quotes every keyword that is not unreserved.
_QUOTED_KEYWORDS = frozenset(keywords.RESERVED_KEYWORDS | keywords.COL_NAME_KEYWORDS | keywords.TYPE_FUNC_NAME_KEYWORDS)

# pg_type's internal names of types for which format_type() uses the SQL name, which it never quotes.
_SQL_NAMES = {
    "bit": "bit",
    "interval": "interval",
    "json": "json",
    "numeric": "numeric",
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bpchar": "character",
    "varchar": "character varying",
    "varbit": "bit varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}

PG_CATALOG = "pg_catalog"

# Tables and views of pg_catalog on the supported servers, 15 to 18, each without its "pg_".
_WITHOUT_PREFIX = """
aggregate aios am amop amproc attrdef attribute auth_members authid available_extension_versions
available_extensions backend_memory_contexts cast class collation config constraint conversion cursors database
db_role_setting default_acl depend description enum event_trigger extension file_settings foreign_data_wrapper
foreign_server foreign_table group hba_file_rules ident_file_mappings index indexes inherits init_privs language
largeobject largeobject_metadata locks matviews namespace opclass operator opfamily parameter_acl partitioned_table
policies policy prepared_statements prepared_xacts proc publication publication_namespace publication_rel
publication_tables range replication_origin replication_origin_status replication_slots rewrite roles rules
seclabel seclabels sequence sequences settings shadow shdepend shdescription shmem_allocations
shmem_allocations_numa shseclabel stat_activity stat_all_indexes stat_all_tables stat_archiver stat_bgwriter
stat_checkpointer stat_database stat_database_conflicts stat_gssapi stat_io stat_progress_analyze
stat_progress_basebackup stat_progress_cluster stat_progress_copy stat_progress_create_index stat_progress_vacuum
stat_recovery_prefetch stat_replication stat_replication_slots stat_slru stat_ssl stat_subscription
stat_subscription_stats stat_sys_indexes stat_sys_tables stat_user_functions stat_user_indexes stat_user_tables
stat_wal stat_wal_receiver stat_xact_all_tables stat_xact_sys_tables stat_xact_user_functions stat_xact_user_tables
statio_all_indexes statio_all_sequences statio_all_tables statio_sys_indexes statio_sys_sequences statio_sys_tables
statio_user_indexes statio_user_sequences statio_user_tables statistic statistic_ext statistic_ext_data stats
stats_ext stats_ext_exprs subscription subscription_rel tables tablespace timezone_abbrevs timezone_names transform
trigger ts_config ts_config_map ts_dict ts_parser ts_template type user user_mapping user_mappings views
wait_events
"""
SYSTEM_RELATIONS = frozenset(f"pg_{name}" for name in _WITHOUT_PREFIX.split())


def quoted(name: str) -> str:
    """An identifier as ``quote_ident`` writes it."""
    if _PLAIN.match(name) and name not in _QUOTED_KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def shown(name: object) -> str:
    """A name from a dump for a message: on one line, without control sequences for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(name))


def is_system_schema(name: str) -> bool:
    """Whether a schema is PostgreSQL's own: no role can create one whose name begins with ``pg_``."""
    return name.startswith("pg_") or name == "information_schema"


@dataclass(frozen=True, slots=True, order=True)
class Relation:
    """A schema-qualified name; ``schema`` is empty if the name is unqualified and the search path is unknown."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}" if self.schema else quoted(self.name)


def of_range_var(node: Any, schema: str) -> Relation:
    """The name in a RangeVar; ``schema`` is that of unqualified names."""
    return Relation(node.schemaname or schema, node.relname)


def of_list(parts: Sequence[Any], schema: str) -> Relation:
    """The name in a list of String nodes (``s.f``)."""
    texts = [part.sval for part in parts]
    return Relation(texts[-2] if len(texts) > 1 else schema, texts[-1])


def type_identity(node: Any) -> str:
    """A TypeName as ``format_type`` writes it, without its modifier: ``integer``, ``s1.mood[]``."""
    texts = [part.sval for part in node.names]
    if len(texts) > 1 and texts[-2] == "pg_catalog":
        texts = texts[-1:]
        text = _SQL_NAMES.get(texts[0], quoted(texts[0]))
    elif len(texts) == 1:
        text = _SQL_NAMES.get(texts[0], quoted(texts[0]))
    else:
        text = f"{quoted(texts[-2])}.{quoted(texts[-1])}"
    return text + "[]" * bool(node.arrayBounds)


def function_identity(name: Sequence[Any], parameters: Sequence[Any] | None, schema: str) -> str:
    """A function in the notation of the catalogue functions: ``s1.f(integer, text)``. Output parameters do not
    count."""
    types = [type_identity(p.argType) for p in parameters or () if p.mode not in ("FUNC_PARAM_OUT", "FUNC_PARAM_TABLE")]
    return f"{of_list(name, schema)}({', '.join(types)})"


_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s."]+))\s*(\.|\Z)')


def parse(text: str, schema: str) -> Relation | None:
    """A qualified name in SQL notation (``s1."we""ird"``), or None for other text; unquoted letters are folded."""
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(text, position)
        if match is None:
            return None
        inner, plain, end = match.groups()
        parts.append(inner.replace('""', '"') if inner is not None else plain.lower())
        position = match.end()
        if not end:
            break
    if position != len(text) or len(parts) > 2:
        return None
    return Relation(parts[-2] if len(parts) == 2 else schema, parts[-1])
