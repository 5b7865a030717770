"""The entries of a history's audit table."""

from __future__ import annotations

import json
from string import Template

from tests.salvage.histories import Picked
from tests.salvage.terms import Form, Key, Row

RECORDED = Template(
    "WITH w AS ($statement RETURNING *) INSERT INTO log SELECT '$entry ' || row_number() OVER (), '$table', '$who', "
    "$number, to_jsonb(w) FROM w"
)


def wrote(entries: list[Row], picked: Picked, forms: dict[str, Form], table: str, key: Key) -> bool:
    """Whether an entry of the picked user or transaction names a row."""
    columns = forms[table].key
    return any(
        (not picked.user or row["who"] == picked.user)
        and (not picked.number or row["txn"] == str(picked.number))
        and row["table_name"] == table
        and _entry_key(row["row_data"], columns) == key
        for row in entries
    )


def _entry_key(data: str, columns: tuple[str, ...]) -> Key:
    found = json.loads(data.replace("\\\\", "\\"), parse_float=str, parse_int=str)
    return tuple(str(found.get(each)) for each in columns)
