"""The names of the schemas that a run creates for a live schema: staging, kept and undone.

A name has at most 63 bytes of UTF-8: the server would cut a longer one silently, and two names could become the same.
It is data for ``psycopg.sql.Identifier``, which quotes it. The mark in the schema's comment, not its name, identifies a
schema of lastgood."""

from __future__ import annotations

import hashlib

NAME_BYTES = 63
_DIGEST_DIGITS = 8


def staging(run: str, schema: str) -> str:
    """The schema in which the run builds the restore point's ``schema``."""
    return _name("new", run, schema)


def kept(run: str, schema: str) -> str:
    """The schema that keeps the objects of ``schema`` that were live before the swap of the run."""
    return _name("kept", run, schema)


def undone(run: str, schema: str) -> str:
    """The schema that keeps the objects of ``schema`` that were live before the undo of the run."""
    return _name("undone", run, schema)


def _name(kind: str, run: str, schema: str) -> str:
    prefix = f"lastgood_{kind}_{run.rsplit('-', 1)[-1]}_"
    whole = prefix + schema
    if len(whole.encode()) <= NAME_BYTES:
        return whole
    # Long names with the same beginning stay different.
    ending = "_" + hashlib.sha256(schema.encode()).hexdigest()[:_DIGEST_DIGITS]
    room = NAME_BYTES - len(prefix.encode()) - len(ending)
    if room < 1:
        raise ValueError(f"cannot name a schema of run {run!r}: the run name is too long")
    return prefix + schema.encode()[:room].decode("utf-8", "ignore") + ending
