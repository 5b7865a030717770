"""Which lines of a migration's output say that a command failed."""

from __future__ import annotations

import pytest

from lastgood.command.deploy.complaints import Complaints


@pytest.mark.parametrize(
    "line",
    [
        "ERROR:  division by zero",
        "psql:m.sql:8: ERROR:  division by zero",
        "psql:/srv/a b/m.sql:8: FATAL:  terminating connection",
        "psql:<stdin>:3: FEHLER:  Division durch Null",
        "ERREUR:  la relation « contacts » n'existe pas",
        "ОШИБКА:  отношение не существует",
        '错误:  关系 "x" 不存在',
        "エラー:  x",
        "ERRO:  divisão por zero",
        "CHYBA:  dělení nulou",
        "BŁĄD:  dzielenie przez zero",
        "HATA:  sıfıra bölünme",
        "psql:m.sql:1: error: missing.sql: No such file or directory",
        "psql:m.sql:1: Fehler: missing.sql: Datei nicht gefunden",
        "psql: error: connection to server failed",
        "invalid command \\foo",
        "\x1b[31mERROR:  x",
    ],
)
def test_an_error(line: str) -> None:
    heard = Complaints()
    heard.read(line)
    assert heard.count == 1
    assert heard.summary == f"1 command failed: {line.strip()}"


@pytest.mark.parametrize(
    "line",
    [
        "NOTICE:  ERROR:  x",
        "psql:m.sql:1: NOTICE:  relation exists, skipping",
        "psql:m.sql:1: WARNING:  there is no transaction in progress",
        "LINE 1: select 1/0;",
        "DETAIL:  Key (id)=(1) already exists.",
        "-- ERROR: as a comment",
        "0 errors",
        "error: none",
        "INFO  [alembic] ERROR: handled",
        "FEHLERFREI:  alles gut",
    ],
)
def test_no_error(line: str) -> None:
    heard = Complaints()
    heard.read(line)
    assert (heard.count, heard.summary) == (0, "")


def test_the_first_are_kept() -> None:
    heard = Complaints()
    for number in range(20):
        heard.read(f"ERROR:  number {number}")
    assert (heard.count, len(heard.first)) == (20, 5)
    assert heard.summary == "20 commands failed: ERROR:  number 0"
