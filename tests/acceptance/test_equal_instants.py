"""Time stamps that a dump writes in offsets which fit no time zone: equal instants are equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore

DUMP = r"""--
-- PostgreSQL database dump
--
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.t (
    id integer,
    at timestamp with time zone,
    wall timestamp without time zone
);
COPY public.t (id, at, wall) FROM stdin;
1	2015-03-20 13:00:05.933-05	2015-03-20 13:00:05.933
2	2017-11-03 13:17:12.478876-06	2017-11-03 13:17:12.478876
3	2017-11-03 16:17:12.478876+05:30	\N
4	infinity	-infinity
\.

--
-- PostgreSQL database dump complete
--
"""


@pytest.mark.postgres(15, 18)
def test_time_stamps_that_fit_no_time_zone_are_compared_as_instants(
    server: EmbeddedServer, new_database: Callable[..., str], store: Path
) -> None:
    (store / "dump.sql").write_text(DUMP)
    into = f"{new_database()}_copy"
    report = restore(server.target("postgres"), store, "dump.sql", into)
    assert [(table.name, table.rows) for table in report.tables] == [("t", 4)]
    assert report.not_compared == (
        'The content of table "public.t" was not compared, only its number of rows and the newest at, wall:'
        f" an unknown version of PostgreSQL and PostgreSQL {server.major} may format the same values differently.",
    )
