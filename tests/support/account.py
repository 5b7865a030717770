"""An account of a whole database, independent of lastgood: pg_dump's text, and what that leaves out, from catalogues.

Schemas of lastgood are left out. Two accounts are compared entry by entry, so that a difference has a name."""

from __future__ import annotations

import re

from lastgood.postgres.server import Connection

_ENTRY = re.compile(r"^--\n-- (?:Data for )?Name: ", re.MULTILINE)
_HEAD = re.compile(r"(?P<name>.*); Type: (?P<type>.*); Schema: (?P<schema>.*); Owner: (?P<owner>.*)")

# What pg_dump's text does not show: which object depends on which, with the kind of dependency.
_DEPENDENCIES = """
SELECT pg_describe_object(classid, objid, objsubid) || ' -> ' || pg_describe_object(refclassid, refobjid, refobjsubid)
       || ' ' || deptype::text
FROM pg_depend WHERE deptype <> 'p'
"""
_SHARED = """
SELECT pg_describe_object(classid, objid, objsubid) || ' -> ' || pg_describe_object(refclassid, refobjid, 0)
       || ' ' || deptype::text
FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SEQUENCES = "SELECT schemaname || '.' || sequencename, coalesce(last_value, -1) FROM pg_sequences"
_OIDS = "SELECT nspname, oid FROM pg_namespace WHERE nspname IN ('public', 'auth', 'storage', 'realtime')"
_REFERENCES = "SELECT entity::text FROM realtime.subscription ORDER BY id"
# Names that the server makes of OIDs.
_OF_OID = re.compile(r"(RI_ConstraintTrigger_[ac]_|pg_toast_|\$)\d+")


def account(connection: Connection, dump: str) -> dict[str, object]:
    """The account of the connection's database (as superuser); ``dump`` is pg_dump's text of it."""
    found: dict[str, object] = {}
    for entry in _ENTRY.split(dump)[1:]:
        first, _, body = entry.partition("\n")
        head = _HEAD.match(first)
        assert head is not None, first
        if "lastgood_" in first:
            continue
        # SET lines stand before the first entry that needs them, whichever it is.
        lines = [
            line
            for line in body.splitlines()
            if line and not line.startswith(("--", "\\restrict", "\\unrestrict", "SET default_"))
        ]
        key = f"{head['type']} {head['schema']} {head['name']} of {head['owner']}"
        # The order of rows and of grants is free.
        ordered = sorted(lines) if head["type"] in ("TABLE DATA", "ACL", "DEFAULT ACL") else lines
        assert key not in found or found[key] == ordered, key
        found[key] = ordered
    for query in (_DEPENDENCIES, _SHARED):
        for (text,) in connection.execute(query):
            if "lastgood_" not in text and not text.startswith("index pg_toast."):
                line = _OF_OID.sub(r"\1N", text)
                count = found.get(line, 0)
                assert isinstance(count, int)
                found[line] = count + 1
    for name, value in connection.execute(_SEQUENCES):
        if not name.startswith("lastgood_"):
            found[f"value of {name}"] = value
    for name, oid in connection.execute(_OIDS):
        found[f"OID of {name}"] = oid
    found["realtime.subscription"] = connection.execute(_REFERENCES).fetchall()
    return found


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """What differs between two accounts, in words."""
    found = []
    for key in sorted({*one, *other}):
        if one.get(key) != other.get(key):
            found.append(f"{key}: {one.get(key)!r} is now {other.get(key)!r}")
    return found


def assert_same(one: dict[str, object], other: dict[str, object]) -> None:
    """The accounts are equal; else all differences are shown."""
    found = differences(one, other)
    assert not found, "\n".join(found)
