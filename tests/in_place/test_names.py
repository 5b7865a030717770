"""Names of schemas: short enough for the server, and different where the live schemas are."""

from __future__ import annotations

import pytest

from lastgood.in_place import names

RUN = "20261122-031500-9f3c1a70"


def test_a_name_tells_the_kind_the_run_and_the_live_schema() -> None:
    assert names.staging(RUN, "public") == "lastgood_new_9f3c1a70_public"
    assert names.kept(RUN, "public") == "lastgood_kept_9f3c1a70_public"
    assert names.undone(RUN, "public") == "lastgood_undone_9f3c1a70_public"


def test_a_name_keeps_what_needs_quotes() -> None:
    assert names.kept(RUN, 'My "App"') == 'lastgood_kept_9f3c1a70_My "App"'


def test_long_names_fit_and_differ() -> None:
    base = "ä" * 31
    found = {names.undone(RUN, schema) for schema in (base, base[:-1] + "a", base[:-1] + "b")}
    assert len(found) == 3
    assert all(len(name.encode()) <= names.NAME_BYTES for name in found)


def test_a_run_that_leaves_no_room_is_a_defect() -> None:
    with pytest.raises(ValueError, match="the run name is too long"):
        names.kept("x" * 60, "public")
