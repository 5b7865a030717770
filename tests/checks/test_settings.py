"""What a role may not carry over is found by the check, not at the switch."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql

from lastgood import rollback
from lastgood.errors import Refused
from lastgood.plan.plan import Request
from lastgood.postgres import database as databases
from lastgood.postgres.mark import marked
from tests.crash.test_crash import Scene
from tests.crash.test_crash import scene as scene


def as_operator(scene: Scene, tmp_path: Path) -> Request:
    """The owner of the live database, who is no superuser."""
    return Request(
        target=scene.server.target(scene.live, user="plain_operator"), store=scene.store, state=tmp_path / "state"
    )


@pytest.mark.postgres(15, 16, 17, 18)
@pytest.mark.parametrize(
    ("statement", "text", "hint"),
    [
        (
            "ALTER DATABASE {live} SET app.tenant TO 'x'",
            'setting app.tenant of "{name}": permission denied to set parameter "app.tenant"',
            'As a superuser: GRANT SET ON PARAMETER "app.tenant" TO "plain_operator"; or connect as a superuser.',
        ),
        (
            "ALTER DATABASE {live} SET log_min_duration_statement TO 5",
            'setting log_min_duration_statement of "{name}": permission denied to set parameter '
            '"log_min_duration_statement"',
            'As a superuser: GRANT SET ON PARAMETER "log_min_duration_statement" TO "plain_operator"; or connect as a '
            "superuser.",
        ),
        (
            "ALTER ROLE plain_stranger IN DATABASE {live} SET work_mem TO '5MB'",
            'setting work_mem of role "plain_stranger" in "{name}": ',
            'Connect as a superuser, or as a role that may alter the role "plain_stranger".',
        ),
    ],
)
def test_a_setting_that_the_role_may_not_make(
    scene: Scene, tmp_path: Path, statement: str, text: str, hint: str
) -> None:
    live = sql.Identifier(scene.live)
    with scene.server.target("postgres").connect() as connection:
        try:
            connection.execute("CREATE ROLE plain_operator LOGIN CREATEDB")
            connection.execute("CREATE ROLE plain_stranger LOGIN")
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO plain_operator").format(live))
            with scene.server.target(scene.live).connect() as inside:
                inside.execute("ALTER TABLE public.news OWNER TO plain_operator")
            connection.execute(statement.replace("{live}", live.as_string(None)).encode())
            prepared = rollback.plan(as_operator(scene, tmp_path))
            found = [each for each in prepared.plan.findings if each.code == "setting_not_carried_over"]
            assert [(each.item, each.level, each.hint, each.final) for each in found] == [
                ("privileges", "refusal", hint, True)
            ]
            wanted = f'role "plain_operator" cannot carry over the {text.replace("{name}", scene.live)}'
            assert found[0].text.startswith(wanted)
            with pytest.raises(Refused):
                rollback.run(prepared)
            # It was tried, and nothing of it stays.
            assert databases.describe(connection, scene.live).owner == "plain_operator"
            assert [mark for _, mark in marked(connection) if mark.live == scene.live] == []
            # Who may do it is not refused.
            as_superuser = Request(target=scene.server.target(scene.live), store=scene.store, state=tmp_path / "state")
            assert rollback.plan(as_superuser).plan.refusals == ()
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(live))
            connection.execute(sql.SQL("ALTER ROLE ALL IN DATABASE {} RESET ALL").format(live))
            with scene.server.target(scene.live).connect() as inside:
                inside.execute("ALTER TABLE public.news OWNER TO postgres")
            connection.execute("DROP ROLE IF EXISTS plain_operator, plain_stranger")


def test_settings_that_the_owner_may_make_are_no_obstacle_and_a_label_is_named(scene: Scene, tmp_path: Path) -> None:
    live = sql.Identifier(scene.live)
    with scene.server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE plain_operator LOGIN CREATEDB")
        try:
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO plain_operator").format(live))
            with scene.server.target(scene.live).connect() as inside:
                inside.execute("ALTER TABLE public.news OWNER TO plain_operator")
            connection.execute(sql.SQL("ALTER DATABASE {} SET search_path TO public, app").format(live))
            connection.execute(sql.SQL("ALTER DATABASE {} SET work_mem TO '5MB'").format(live))
            connection.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO plain_operator").format(live))
            # No build for tests has a label provider; the catalogue's row is what one would leave.
            connection.execute(
                "INSERT INTO pg_shseclabel SELECT oid, 'pg_database'::regclass, 'selinux', 'low' FROM pg_database"
                " WHERE datname = %s",
                [scene.live],
            )
            found = rollback.plan(as_operator(scene, tmp_path)).plan
            assert found.refusals == ()
            assert [(each.item, each.text, each.hint) for each in found.findings if "label" in each.code] == [
                (
                    "privileges",
                    f'the security label of provider "selinux" on the database "{scene.live}" is not carried over',
                    f'Set it again after the rollback: SECURITY LABEL FOR "selinux" ON DATABASE "{scene.live}" IS '
                    "'low'",
                )
            ]
        finally:
            connection.execute("DELETE FROM pg_shseclabel WHERE provider = 'selinux'")
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(live))
            with scene.server.target(scene.live).connect() as inside:
                inside.execute("ALTER TABLE public.news OWNER TO postgres")
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM plain_operator").format(live))
            connection.execute("DROP ROLE plain_operator")
