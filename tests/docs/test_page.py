"""Pages are read as their readers do, and what differs from them is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import page
from tests.docs.page import Block, Call, Command, unlike

PAGE = """\
# A page

```sh
lastgood status            # how it is
# a comment alone

lastgood facts a --live    # exit status 3: they differ
cat > f <<'SQL'
SELECT 1; -- lastgood
SQL
pg_dump \\
  --file x
```

<!-- not run: needs a crown -->

```sh
systemctl stop crm
```

1. In a list:

   ```toml title="lastgood.toml"
   store = "b"
   ```
"""


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    monkeypatch.setattr(page, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text(PAGE)
    return page.blocks("a.md")


def test_blocks_and_commands(blocks: list[Block]) -> None:
    first, second, third = blocks
    assert [(each.place, each.text.partition(" ")[0], each.status) for each in first.commands()] == [
        ("a.md:4", "lastgood", 0),
        ("a.md:7", "lastgood", 3),
        ("a.md:8", "cat", 0),
        ("a.md:11", "pg_dump", 0),
    ]
    assert first.commands()[2].text == "cat > f <<'SQL'\nSELECT 1; -- lastgood\nSQL"
    assert (second.not_run, second.commands()) == ("needs a crown", [])
    assert (third.title, third.text, third.not_run) == ("lastgood.toml", 'store = "b"\n', "")


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("lastgood restore 'a b' --into c  # or d", Call(("restore", "a b", "--into", "c"), "", "")),
        ("cat n.sql | lastgood restore - --into c", Call(("restore", "-", "--into", "c"), "n.sql", "")),
        ("lastgood config schema > s.json", Call(("config", "schema"), "", "s.json")),
        ("lastgood status && lastgood undo", None),
        ('lastgood restore "$PAGES_NAME"', Call(("restore", "one two"), "", "")),
        ('lastgood restore "$(ls)"', None),
        ("psql -c 'SELECT 1'", None),
    ],
)
def test_what_needs_no_shell(text: str, call: Call | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGES_NAME", "one two")
    assert Command("a.md:1", text).call == call


@pytest.mark.parametrize(
    ("title", "language", "text", "commands"),
    [
        (
            "crontab",
            "text",
            "15 3 * * * lastgood backup\n@daily lastgood check\n",
            ["lastgood backup", "lastgood check"],
        ),
        ("/etc/x/b.service", "ini", "[Service]\nExecStart=lastgood backup\n", ["lastgood backup"]),
        (
            ".github/workflows/d.yml",
            "yaml",
            "jobs: {a: {env: {A: b c, B: '${{ secrets.B }}'}, steps: [{uses: x}, {run: lastgood status}]}}",
            ["export A='b c'", "lastgood status"],
        ),
        (".gitlab-ci.yml", "yaml", "stages: [a]\nb: {script: [lastgood status]}\n", ["lastgood status"]),
    ],
)
def test_commands_within_files(title: str, language: str, text: str, commands: list[str]) -> None:
    assert [each.text for each in Block("a.md", 1, language, title, text, "").commands()] == commands


@pytest.mark.parametrize(
    ("expected", "printed", "found"),
    [
        ("Done: 3 rows\n", "x\nDone:   12,345 rows\n", ""),
        ("crm_old_4a5e342c, in 1.2 s\n", "crm_old_00ffee11, in 201 ms\n", ""),
        ("backups/…_emergency.sql\n", "backups/crm_20261123_082213_emergency.sql\n", ""),
        ("a\nb\n", "b\na\n", "b"),
        ("3 rows\n", "no rows\n", "3 rows"),
        ("Done\n", "Done: 3 rows\n", "Done"),
    ],
)
def test_what_is_printed(expected: str, printed: str, found: str) -> None:
    assert unlike(expected, printed) == found
