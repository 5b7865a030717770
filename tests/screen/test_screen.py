"""What leaves lastgood: clean, as wide as the terminal, without colours where they are not wanted."""

from __future__ import annotations

import gc
import io
import json
import os
from pathlib import Path

import pytest

from lastgood.errors import Corrupt, Refused
from lastgood.facts.compare import FactsComparison
from lastgood.load.rebuild import ProofFailed
from lastgood.screen import errors
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text.redact import Scrubber, visible


class Terminal(io.StringIO):
    """A stream that pretends to be a terminal."""

    def isatty(self) -> bool:
        return True


class Recorded(Screen):
    """A screen that remembers what it showed."""

    def __init__(self, width: int | None = 80, *, terminal: bool = False, no_color: bool = False) -> None:
        scrub = Scrubber()
        scrub.learn(["geheim"])
        make = Terminal if terminal else io.StringIO
        self.streams = make(), make()
        super().__init__(no_color=no_color, scrub=scrub, stdout=self.streams[0], stderr=self.streams[1], width=width)


def screen(width: int | None = 80, *, terminal: bool = False, no_color: bool = False) -> Recorded:
    return Recorded(width, terminal=terminal, no_color=no_color)


def out(screen: Recorded) -> str:
    return screen.streams[0].getvalue()


def err(screen: Recorded) -> str:
    return screen.streams[1].getvalue()


def test_passwords_and_control_characters_do_not_get_out() -> None:
    it = screen()
    it.say("the table geheim\x1b[2J\x07 lies")
    it.table([TableColumn("name")], [["geheim\x1b]0;x"]])
    it.document({"name": "geheim", "list": ["a geheim", {"deep": 'geheim"'}]})
    it.json_line({"event": "note", "text": "geheim"})
    assert "geheim" not in out(it) + err(it)
    assert "\x1b" not in out(it)
    assert out(it).startswith("the table ***\\x1b[2J\\x07 lies\n")


FORGED = "crm\nerror: cannot go on\r\u2028Done: all is well\x85"
SHOWN = r"crm\nerror: cannot go on\r\u2028Done: all is well\x85"


def test_a_line_end_in_a_name_makes_no_line() -> None:
    it = screen(None)
    it.say(f"restoring {FORGED}")
    it.heading(FORGED)
    it.pairs([("database", FORGED)])
    it.table([TableColumn("name"), TableColumn("rows", right=True)], [[FORGED, "1"]])
    it.quote(FORGED)
    hint, state = "First this.\nThen that.", f'"{FORGED}" is open.'
    errors.show(it, Refused(f'cannot roll back "{FORGED}"', hint=hint, state=state))
    comparison = FactsComparison(differences=(), tables=(), not_compared=())
    errors.show(it, ProofFailed(f"it differs in 1 thing\n  {visible(FORGED)}", comparison=comparison, hint=""))
    assert out(it).splitlines() == [
        f"restoring {SHOWN}",
        "",
        SHOWN,
        f"  database  {SHOWN}",
        f"  {'name':<{len(SHOWN)}}  rows",
        f"  {SHOWN}     1",
    ]
    assert err(it).splitlines() == [
        f"      | {SHOWN}",
        f'error: cannot roll back "{SHOWN}"',
        f'state: "{SHOWN}" is open.',
        "next:  First this.",
        "       Then that.",
        "error: it differs in 1 thing",
        f"         {SHOWN}",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    it = screen(width)
    it.say("a long sentence " * 20, first="  - ", indent=4)
    it.pairs([("Name", "words and more words " * 10), ("Left out", ""), ("Other", "x")])
    columns = [
        TableColumn("table", fold=True),
        TableColumn("rows", right=True),
        TableColumn("content digest"),
        TableColumn("verdict"),
    ]
    it.table(
        columns, [["public." + "x" * 63, "1,234,567", "abcdefabcdef", "equal"], ["s.t", "1", "rows only", "equal"]]
    )
    lines = out(it).splitlines()
    assert max(len(line) for line in lines if "x" * width not in line and "x" * 63 not in line) <= width
    assert "Left out" not in out(it)


def test_without_a_terminal_lines_are_not_wrapped() -> None:
    it = screen(None)
    it.say("word " * 100)
    assert len(out(it).splitlines()) == 1


def test_a_table_has_aligned_numbers_and_no_trailing_space() -> None:
    it = screen(60)
    it.table(
        [TableColumn("table", fold=True), TableColumn("rows", right=True), TableColumn("verdict")],
        [["a", "7", "equal"], ["b", "1,234", ""]],
    )
    assert out(it) == (
        "  table   rows  verdict\n"
        "  a          7  equal\n"
        "  b      1,234\n"
    )  # fmt: skip


def test_a_terminal_too_narrow_for_a_table_gets_blocks() -> None:
    it = screen(40)
    columns = [
        TableColumn("table", fold=True),
        TableColumn("rows now", right=True),
        TableColumn("written since", right=True),
    ]
    it.table(columns, [["public.contacts", "5,000,000", "120 (created_at)"]])
    assert out(it) == "  public.contacts\n    rows now       5,000,000\n    written since  120 (created_at)\n"


def test_text_beside_a_long_name_is_whole() -> None:
    it = screen(56)
    columns = [TableColumn("name", fold=True), TableColumn("size", right=True), TableColumn("known", fold=True)]
    it.table(columns, [["migrations/cloud_backup_20261130_093000.sql", "754 kB", "foreign; time by its name"]])
    it.table(columns, [["a_name_of_27_letters_20261130", "754 kB", "foreign; time by its name"]])
    assert out(it) == (
        "  name    size  known\n"
        "  migrations/cloud_backup_20261130_093000.sql\n"
        "        754 kB  foreign; time by its name\n"
        "  name                             size  known\n"
        "  a_name_of_27_letters_20261130  754 kB  foreign; time\n"
        "                                         by its name\n"
    )


def test_a_command_is_never_broken() -> None:
    it = screen(40)
    it.command("To undo it:", "lastgood undo 20261130")
    it.command("To roll back to it:", "lastgood rollback --store 'other points' crm_20261130_162711.sql", indent=2)
    assert out(it) == (
        "To undo it: lastgood undo 20261130\n"
        "  To roll back to it:\n"
        "    lastgood rollback --store 'other points' crm_20261130_162711.sql\n"
    )


def test_a_long_name_has_a_line_above_its_row() -> None:
    it = screen(44)
    columns = [TableColumn("table", fold=True), TableColumn("rows now", right=True), TableColumn("lost", right=True)]
    it.table(columns, [["public.contacts", "5,000", "0"], ["supabase_migrations.schema_migrations", "4", "1"]])
    assert out(it) == (
        "  table            rows now  lost\n"
        "  public.contacts     5,000     0\n"
        "  supabase_migrations.schema_migrations\n"
        "                          4     1\n"
    )


def test_colours_need_a_terminal_and_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for it, coloured in (
        (screen(terminal=True), True),
        (screen(terminal=True, no_color=True), False),
        (screen(terminal=False), False),
    ):
        errors.show(it, Refused("cannot continue: no"))
        assert ("\x1b[1;31m" in err(it)) is coloured


def test_an_error_without_a_look_at_the_server_has_no_state() -> None:
    it = screen(60)
    errors.show(it, Corrupt('cannot use "x.sql": line 7 is damaged', hint="Choose another: `lastgood points`."))
    assert err(it) == ('error: cannot use "x.sql": line 7 is damaged\nnext:  Choose another: `lastgood points`.\n')
    assert out(it) == ""


def test_an_error_as_a_document() -> None:
    it = screen()
    it.document(errors.document(Corrupt("cannot use it", hint="Look.", line=7, offset=99)))
    assert json.loads(out(it)) == {
        "format": 1,
        "error": {
            "code": "corrupt_point",
            "message": "cannot use it",
            "hint": "Look.",
            "state": "",
            "exit_status": 4,
            "line": 7,
            "offset": 99,
        },
    }


def test_a_reader_that_goes_away_does_not_stop_the_work() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        it = Screen(stdout=stream, stderr=stream, width=80)
        for _ in range(3):
            it.say("a line")
            it.document({"a": 1})
            it.table([TableColumn("a")], [["b"]])


def test_a_stream_that_is_closed_costs_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        stream = io.StringIO()
        it = Screen(stdout=stream, stderr=stream)
        stream.close()
        it.say("lost")
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
