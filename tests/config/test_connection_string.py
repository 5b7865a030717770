"""Connection strings as people have them, and the errors for those that libpq cannot use."""

from __future__ import annotations

import pytest

from lastgood.config import connection_string
from lastgood.errors import UsageError
from lastgood.text.address import as_libpq

URL = "postgresql://u:geheim@h/crm"
FORM = 'Give it as "postgresql://user@host:5432/name" or "host=… dbname=…".'
ELSEWHERE = "remove the password from the URL and put it in ~/.pgpass or the variable PGPASSWORD."


@pytest.mark.parametrize(
    "text",
    [
        f"{URL}\r\n",
        f" {URL} ",
        f'"{URL}"',
        f"'{URL}'\r",
        "postgresql+asyncpg://u:geheim@h/crm",
        "postgresql+psycopg2://u:geheim@h/crm",
        "PostgreSQL://u:geheim@h/crm",
    ],
)
def test_what_files_and_drivers_add_is_left_out(text: str) -> None:
    connection_string.check(text, "DATABASE_URL")
    assert as_libpq(text) == URL


@pytest.mark.parametrize(
    "text", [URL, "postgres://h/crm", "postgresql://a:b@c:1/d", "host=h dbname='a b'", "dbname=crm", ""]
)
def test_what_libpq_reads_remains(text: str) -> None:
    connection_string.check(text, "--db")
    assert as_libpq(text) == text


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        ("jdbc:postgresql://h/crm?password=geheim", "it is a URL for JDBC", f"libpq reads another form. {FORM}"),
        (f"psql '{URL}'", "it is a command of psql", f"Give only the connection string in it. {FORM}"),
        (f"export DATABASE_URL={URL}", 'it begins with "DATABASE_URL="', "Give only the URL that follows."),
        ("postgresql://u:ge heim@h/crm", "it contains a space", "Write a space as %20."),
        (
            "postgresql://u@[::1/crm",
            "the address of its host is incomplete",
            "Write it like postgresql://user@[::1]:5432/name.",
        ),
        ("postgresql://h/crm%zz", 'a "%" in it begins no valid escape', "Write % as %25."),
        ("postgresql://h/crm?options=-c%20a=1", 'the value of a parameter contains "="', "Write = as %3D there."),
        (f"{URL}?ssl=require", 'libpq knows its parameter "ssl" only as ssl=true', "Write sslmode=require instead."),
        (f"{URL}?sslmod=require", 'libpq does not know its parameter "sslmod"', 'Did you mean "sslmode"?'),
        (
            f"{URL}?sslmode=require&schema=public",
            'libpq does not know its parameter "schema"',
            "Leave it out: it is meant for the driver of the application, not for PostgreSQL.",
        ),
        (
            f"{URL}?schema=public&pgbouncer=true",
            'libpq does not know its parameters "schema" and "pgbouncer"',
            "Leave them out: they are meant for the driver of the application, not for PostgreSQL.\nWithout them:\n"
            '  export LASTGOOD_DB="${DATABASE_URL%%\\?*}"',
        ),
        (f"{URL}?connect_timeout=soon", 'its "connect_timeout" is not a number', "Write it in seconds."),
        ("postgresql:/u:geheim@h/crm", 'its scheme is not followed by "://"', FORM),
        (
            "host=h;database=crm;password=geheim",
            'its parts are separated by ";"',
            'Write it like "host=… port=… user=… dbname=…".',
        ),
        (
            "${DATABASE_URL}",
            "it is a placeholder",
            "Replace it with its value. LASTGOOD_DB and DATABASE_URL are read from the environment without an option.",
        ),
        (
            "db.example.org:5433/crm",
            "it is neither a URL nor a list of key=value",
            f"{FORM} With its scheme: postgresql://db.example.org:5433/crm",
        ),
        ("u:geheim@h/crm", "it is neither a URL nor a list of key=value", FORM),
    ],
)
def test_each_mistake_has_its_cause_and_remedy(text: str, why: str, hint: str) -> None:
    assert refusal(text) == (f"cannot parse the connection string from DATABASE_URL: {why}", hint)


@pytest.mark.parametrize("placeholder", ["[YOUR-PASSWORD]", "<password>", "${DB_PASSWORD}", "$PASSWORD", "******"])
def test_a_placeholder_is_not_sent_as_a_password(placeholder: str) -> None:
    assert refusal(f"postgresql://u:{placeholder}@h/crm") == (
        "cannot use the connection string from DATABASE_URL: its password is a placeholder",
        f"Replace the placeholder with the password of the role, or {ELSEWHERE}",
    )


@pytest.mark.parametrize("text", ["postgresql://u:geheim@::1/crm", "postgresql://::1:5432/crm", "postgres://fe80::a:b"])
def test_an_ipv6_address_needs_brackets(text: str) -> None:
    assert refusal(text) == (
        "cannot parse the database URL from DATABASE_URL: its IPv6 address has no brackets",
        "Write it like postgresql://user@[::1]:5432/name.",
    )


def refusal(text: str) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        connection_string.check(text, "DATABASE_URL")
    assert "geheim" not in caught.value.message + caught.value.hint
    return caught.value.message, caught.value.hint
