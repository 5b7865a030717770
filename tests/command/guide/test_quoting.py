"""A shell, libpq and SQL each read exactly the name that was written for them."""

from __future__ import annotations

import itertools
import os
import subprocess

import pytest
from psycopg import conninfo, sql

from lastgood.command.guide.quoting import assigned, command_line, insert, literal, setting, word
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.text import redact

NAMES = (
    "crm",
    "two words",
    "it's",
    'a "b" $HOME ${x} `id` $(id)',
    "back\\slash \\' \\",
    "-n --help",
    "new\nline\n",
    "\n",
    "tab\tand\rreturn\x1b[31m\x7f",
    "größe 🐘 ‮reversed",
    "100% %s %d !x",
    "a=b",
    "~",
    "*?[a]#;&|<>(){}",
    "",
)


def test_a_shell_reads_the_name() -> None:
    lines = [assigned(f"N{number}", name) for number, name in enumerate(NAMES)]
    assert all("\n" not in line for line in lines)
    shown = "\n".join(f'printf "%s\\0" "$N{number}"' for number in range(len(NAMES)))
    done = subprocess.run(["/bin/sh", "-eu", "-c", "\n".join(lines) + "\n" + shown], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == list(NAMES)


def test_a_word_can_have_something_behind_it() -> None:
    lines = "\n".join(f'printf "%s\\0" {word(name)}"_$RUN"' for name in NAMES if not name.endswith("\n"))
    done = subprocess.run(["/bin/sh", "-eu", "-c", "RUN=1\n" + lines], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [f"{name}_1" for name in NAMES if not name.endswith("\n")]


@pytest.mark.parametrize("name", NAMES)
def test_libpq_reads_the_name(name: str) -> None:
    assert conninfo.conninfo_to_dict(setting("dbname", name) + " port=1") == {"dbname": name, "port": "1"}


def test_sql_reads_the_name(server: EmbeddedServer) -> None:
    with server.target("postgres").connect() as connection:
        for strings in ("on", "off"):
            connection.execute(sql.SQL("SET standard_conforming_strings = {}").format(sql.Literal(strings)))
            for name in NAMES:
                assert "\n" not in literal(name)
                found = connection.execute(f"SELECT {literal(name)}".encode()).fetchone()
                assert found == (name,)


def test_rows_fill_their_lines() -> None:
    text = insert("pg_temp.t", (f"('table_{number}', {number})" for number in range(40)))
    assert text.startswith("INSERT INTO pg_temp.t VALUES\n('table_0', 0), ('table_1', 1),")
    assert text.endswith("('table_39', 39);\n")
    assert max(map(len, text.splitlines())) <= 118
    assert len(text.splitlines()) == 8
    assert insert("pg_temp.t", []) == ""


def _run(words: list[str], **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **given}, check=False)


@pytest.mark.parametrize(
    "words",
    [
        ["printf", "%s|", "--token", "s3 cr'et", "--x=y z"],
        ["printf", "%s|", "curl", "-u", "bob:hunter22", "https://h/?token=abcde&x=$HOME"],
        ["sh", "-c", "API_TOKEN=abcde; printf '%s|' $API_TOKEN"],
        ["printf", "%s|", "a b", "", "$(x)"],
    ],
)
def test_a_command_without_its_secrets_is_the_same_command_with_them(words: list[str]) -> None:
    line = command_line(words, itertools.count(1))
    secrets = list(dict.fromkeys(redact.secrets_of(words)))
    assert not any(secret in line for secret in secrets)
    given = {f"SECRET_{number}": secret for number, secret in enumerate(secrets, 1)}
    assert _run(["sh", "-c", line], **given).stdout == _run(words).stdout
    if secrets:
        refused = _run(["sh", "-c", line])
        assert refused.returncode != 0
        assert "SECRET_1: take it from lastgood.toml" in refused.stderr
