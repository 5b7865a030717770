"""Code of a restore point that replaces a routine before its owner gets it, where no guard can refuse that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.damaged.restore import restore_readable
from lastgood.errors import Failed
from lastgood.load.hand_over import CodeActed
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.restore import restore
from tests.dump import hostile

OPERATOR = "definitions_operator"
REPLACING = """
CREATE FUNCTION public.honest() RETURNS integer LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';

CREATE VIEW public.plain AS
 SELECT 1 AS i;

CREATE VIEW public.asks WITH (security_invoker='true') AS
 SELECT 1 AS i;

CREATE OPERATOR public.@@@ (
    FUNCTION = int4pl,
    LEFTARG = integer,
    RIGHTARG = integer
);

CREATE TYPE public.other AS (
\ti integer
);

CREATE CAST (public.other AS text) WITH INOUT;

CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

CREATE TABLE public.watched (
\ti integer,
\tj integer
);

CREATE TRIGGER fires AFTER INSERT ON public.watched FOR EACH ROW EXECUTE FUNCTION public.fire();

CREATE TRIGGER keeps AFTER UPDATE ON public.watched FOR EACH ROW EXECUTE FUNCTION public.fire();

ALTER TABLE public.watched ENABLE ROW LEVEL SECURITY;

CREATE RULE rules AS ON DELETE TO public.watched DO ALSO NOTIFY one;

CREATE POLICY allows ON public.watched USING (i = 1);

CREATE FUNCTION public.replace(i integer) RETURNS boolean LANGUAGE plpgsql AS '
BEGIN
  CREATE OR REPLACE FUNCTION public.honest() RETURNS integer LANGUAGE sql SECURITY DEFINER AS ''SELECT 2'';
  CREATE OR REPLACE VIEW public.plain AS SELECT 2 AS i;
  DROP TRIGGER fires ON public.watched;
  CREATE TRIGGER fires BEFORE INSERT ON public.watched FOR EACH ROW EXECUTE FUNCTION public.fire();
  CREATE OR REPLACE TRIGGER keeps AFTER UPDATE OF j ON public.watched FOR EACH ROW EXECUTE FUNCTION public.fire();
  ALTER VIEW public.asks RESET (security_invoker);
  CREATE OR REPLACE RULE rules AS ON DELETE TO public.watched DO ALSO NOTIFY two;
  ALTER POLICY allows ON public.watched USING (true);
  DROP OPERATOR public.@@@ (integer, integer);
  CREATE OPERATOR public.@@@ (FUNCTION = int4mi, LEFTARG = integer, RIGHTARG = integer);
  DROP CAST (public.other AS text);
  CREATE CAST (public.other AS text) WITH INOUT AS IMPLICIT;
  RETURN true;
END';

CREATE DOMAIN public.trap AS integer CONSTRAINT c CHECK (public.replace(VALUE));

CREATE TYPE public.holder AS (
	i public.trap
);
"""


@pytest.fixture
def place(server: EmbeddedServer, new_database: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """A database of an operator who may create roles, and the name of a new one."""
    live = new_database("definitions")
    with server.target("postgres").connect() as connection:
        connection.execute(f"CREATE ROLE {OPERATOR} LOGIN CREATEDB CREATEROLE".encode())
        connection.execute(
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(live), sql.Identifier(OPERATOR))
        )
        yield live, f"{live}_new"
        for name in (f"{live}_new", live):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(f"DROP ROLE {OPERATOR}".encode())


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize(
    "trap",
    [
        "CREATE VIEW public.z AS\n SELECT '(1)'::public.holder AS i;",
        "CREATE TABLE public.trapped (i public.trap);\n\nCOPY public.trapped (i) FROM stdin;\n1\n\\.",
    ],
    ids=["definition", "rows"],
)
def test_a_routine_and_a_view_that_code_replaced_are_found(
    server: EmbeddedServer, place: tuple[str, str], store: Path, trap: str
) -> None:
    live, into = place
    (store / "code.sql").write_bytes(hostile.hostile_dump(REPLACING + "\n" + trap))
    with pytest.raises(Failed) as raised:
        restore(server.target(live, user=OPERATOR), store, "code.sql", into)
    assert isinstance(raised.value, CodeActed)
    assert raised.value.hint == ("Choose another restore point: lastgood points. Find out who created this code.")
    assert str(raised.value) == (
        "cannot use the restored database: 9 definitions are not as in the restore point\n"
        "  function public.honest(): changed by code while it was restored\n"
        "  view public.plain: changed by code while it was restored\n"
        "  view public.asks: changed by code while it was restored\n"
        "  operator public.@@@(integer,integer): changed by code while it was restored\n"
        "  cast (public.other AS text): changed by code while it was restored\n"
        "  trigger fires on public.watched: changed by code while it was restored\n"
        "  trigger keeps on public.watched: changed by code while it was restored\n"
        "  rule rules on public.watched: changed by code while it was restored\n"
        "  policy allows on public.watched: changed by code while it was restored"
    )


def test_a_guard_refuses_code_that_changes_definitions(
    server: EmbeddedServer, place: tuple[str, str], store: Path
) -> None:
    live, into = place
    (store / "code.sql").write_bytes(
        hostile.hostile_dump(f"{REPLACING}\nCREATE VIEW public.z AS\n SELECT '(1)'::public.holder AS i;")
    )
    with pytest.raises(Failed) as raised:
        restore(server.target(live), store, "code.sql", into)
    assert "code in the restore point tried to run CREATE FUNCTION" in str(raised.value)
    assert raised.value.hint == (
        "A function of the restore point changes definitions while it is restored. If you trust the code: --trust-code "
        "REASON"
    )


@pytest.mark.postgres(15, 18)
def test_the_readable_part_of_a_damaged_dump_too(server: EmbeddedServer, place: tuple[str, str], store: Path) -> None:
    live, into = place
    whole = hostile.hostile_dump(f"{REPLACING}\nCREATE VIEW public.z AS\n SELECT '(1)'::public.holder AS i;")
    (store / "code.sql").write_bytes(whole[: whole.rindex(b"-- PostgreSQL database dump complete")])
    with pytest.raises(CodeActed):
        restore_readable(server.target(live, user=OPERATOR), store, ["code.sql"], into)


@pytest.mark.postgres(15, 18)
def test_code_that_changes_nothing_is_restored(server: EmbeddedServer, place: tuple[str, str], store: Path) -> None:
    live, into = place
    honest = re.sub(r"(?<=BEGIN\n).*(?=  RETURN)", "", REPLACING, flags=re.DOTALL)
    (store / "code.sql").write_bytes(
        hostile.hostile_dump(f"{honest}\nCREATE VIEW public.z AS\n SELECT '(1)'::public.holder AS i;")
    )
    restore(server.target(live, user=OPERATOR), store, "code.sql", into)
    with server.target(into).connect() as connection:
        secured = connection.execute("SELECT relrowsecurity FROM pg_class WHERE relname = 'watched'").fetchone()
    assert secured == (True,)
