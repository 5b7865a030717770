"""Grants in another role's name, restored by a role that is no superuser."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lastgood.load.repairs import Rules
from tests.load.repairs.stage import Stage, repaired

MAJORS = (15, 16, 17, 18)
PID = os.getpid()
OURS, MEMBER, STRANGER, READER = (f"repairs_{each}_{PID}" for each in ("ours", "member", "stranger", "reader"))


@pytest.fixture
def roles(stage: Stage) -> Iterator[Stage]:
    """OURS is a member of MEMBER, not of STRANGER, and owns the database."""
    made = (OURS, MEMBER, STRANGER, READER)
    stage.execute(*(f"CREATE ROLE {each} LOGIN" for each in made))
    stage.execute(f"GRANT {MEMBER} TO {OURS}", f'ALTER DATABASE "{stage.database}" OWNER TO {OURS}')
    stage.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {OURS}", f"GRANT USAGE ON SCHEMA public TO {MEMBER}")
    yield stage
    stage.execute(f'ALTER DATABASE "{stage.database}" OWNER TO postgres')
    stage.execute(*(f"DROP OWNED BY {each}" for each in made), *(f"DROP ROLE {each}" for each in made))


GRANTS = """
CREATE TABLE public.t (i integer);
GRANT SELECT ON TABLE public.t TO {member} WITH GRANT OPTION;
SET SESSION AUTHORIZATION {by};
GRANT SELECT ON TABLE public.t TO {reader};
RESET SESSION AUTHORIZATION;
GRANT INSERT ON TABLE public.t TO {reader};
"""
GRANTED = """
SELECT privilege_type, grantor::regrole::text FROM pg_class c, aclexplode(c.relacl) a
WHERE c.oid = 'public.t'::regclass AND grantee::regrole::text = '{}' ORDER BY 1
"""


@pytest.mark.postgres(*MAJORS)
def test_a_member_grants_in_the_roles_name(roles: Stage) -> None:
    loaded = roles.load(GRANTS.format(member=MEMBER, by=MEMBER, reader=READER), user=OURS)
    assert repaired(loaded) == [
        (
            "session authorization",
            f'only a superuser may set session authorization to "{MEMBER}"; '
            "the next commands ran after SET ROLE instead",
        )
    ]
    assert roles.rows(GRANTED.format(READER)) == [("INSERT", OURS), ("SELECT", MEMBER)]


@pytest.mark.postgres(*MAJORS)
def test_a_role_without_membership_grants_in_its_own_name(roles: Stage) -> None:
    twice = f"{MEMBER};\nGRANT SELECT ON TABLE public.t TO {STRANGER};\nSET SESSION AUTHORIZATION {STRANGER}"
    text = GRANTS.format(member=MEMBER, by=twice, reader=READER)
    loaded = roles.load(text, user=OURS)
    assert [why for _, why in repaired(loaded)] == [
        f'only a superuser may set session authorization to "{MEMBER}"; the next commands ran after SET ROLE instead',
        f'this role is neither a superuser nor a member of "{STRANGER}"; the next commands ran as this role',
    ]
    assert roles.rows(GRANTED.format(STRANGER)) == [("SELECT", MEMBER)]
    assert roles.rows(GRANTED.format(READER)) == [("INSERT", OURS), ("SELECT", OURS)]


@pytest.mark.postgres(15, 18)
def test_strict_takes_no_other_name(roles: Stage) -> None:
    message, hint = roles.fails(GRANTS.format(member=MEMBER, by=MEMBER, reader=READER), Rules(strict=True), user=OURS)
    offset = (roles.folder / "good.sql").read_text().index("SET SESSION")
    assert message == (
        f'cannot load line 16 of "good.sql" (byte {offset}, session authorization): '
        f'permission denied to set session authorization "{MEMBER}" [SQLSTATE 42501]'
    )
    assert hint == (
        "The role lacks a required privilege. "
        "Run lastgood rollback --dry-run to see what the role or the server lacks. "
        "Without --strict it is repaired if possible, and the report lists the repair."
    )


def test_a_superuser_needs_no_repair(roles: Stage) -> None:
    loaded = roles.load(GRANTS.format(member=MEMBER, by=MEMBER, reader=READER))
    assert repaired(loaded) == []
    assert roles.rows(GRANTED.format(READER)) == [("INSERT", "postgres"), ("SELECT", MEMBER)]
