"""Drills as text: phases and proofs, the history, and whether evidence was changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lastgood.command.drill.drill import DrillEvidence, Sealed, StoredEvidence, StoreEvidence, UnreadableEvidence
from lastgood.command.drill.evidence import DrillPhase, Failure
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

SHOWN = 40


def show(screen: Screen, sealed: Sealed, folder: Path) -> None:
    """Print one drill and the location of its evidence."""
    found = sealed.evidence
    if isinstance(found, DrillEvidence):
        _drill(screen, found)
    else:
        _store(screen, found)
    screen.heading("Evidence")
    screen.pairs(
        [
            ("Folder", str(folder)),
            ("SHA-256", sealed.sha256),
            *(
                ("Signed off", f"by {each.by}, {units.moment(each.at)}, as {each.user} on {each.host}")
                for each in sealed.signatures
            ),
        ]
    )
    if not sealed.signatures:
        screen.say(f"To sign it off: lastgood drill --sign {found.run} --by NAME", first="  ", indent=4)


def show_found(screen: Screen, found: StoredEvidence) -> None:
    """Print stored evidence, and whether it was changed."""
    show(screen, found.sealed, found.folder)
    for text in found.problems:
        screen.say(text, first="CHANGED: ", indent=2, style="bold red")
    for text in found.remarks:
        screen.say(text, first="  note: ", indent=8)
    if not found.problems:
        screen.say("The evidence is unchanged: all digests match.", style="bold green")


def show_list(screen: Screen, drills: Sequence[StoredEvidence | UnreadableEvidence]) -> None:
    """Print the history, newest first."""
    if not drills:
        screen.say("This machine has no evidence of a drill. To run one: lastgood drill")
        return
    columns = (
        TableColumn("run"),
        TableColumn("what", fold=True),
        TableColumn("result"),
        TableColumn("duration", right=True),
        TableColumn("rollback", right=True),
        TableColumn("signed off by", fold=True),
    )
    screen.table(columns, [_row(each) for each in drills])


def _row(found: StoredEvidence | UnreadableEvidence) -> tuple[str, ...]:
    if isinstance(found, UnreadableEvidence):
        return (found.run, "its evidence is unreadable", "DAMAGED", "", "", "")
    evidence = found.sealed.evidence
    if isinstance(evidence, DrillEvidence):
        what = f"{evidence.live}: {Path(evidence.point.path).name}"
        rollback = next((units.duration(p.seconds) for p in evidence.phases if p.name == "rollback"), "")
    else:
        what, rollback = f"all of {units.counted(len(evidence.points), 'point')} of {evidence.store}", ""
    result = "CHANGED" if found.problems else evidence.status
    signed = ", ".join(each.by for each in found.sealed.signatures) or "not yet"
    return (evidence.run, what, result, units.duration(evidence.seconds), rollback, signed)


def _drill(screen: Screen, found: DrillEvidence) -> None:
    point = Path(found.point.path).name
    if found.status == "passed":
        screen.say(f'The drill passed: "{found.live}" can be rolled back to {point}.', style="bold green")
    else:
        screen.say(f'The drill FAILED: do not rely on a rollback of "{found.live}" to {point}.', style="bold red")
        if found.failure is not None:
            _failure(screen, found.failure, found.phases)
    if found.proofs:
        screen.heading("Proofs")
    for each in found.proofs:
        screen.say(
            each.title, first="  yes  " if each.holds else "  NO   ", indent=7, style="" if each.holds else "bold red"
        )
        screen.say(each.evidence, first="       ", indent=7)
    screen.heading("Durations")
    columns = (
        TableColumn("phase", fold=True),
        TableColumn("duration", right=True),
        TableColumn("bytes", right=True),
        TableColumn("rows", right=True),
    )
    screen.table(columns, [_phase(each) for each in found.phases if "." not in each.name or "rollback" in each.name])
    _figures(screen, found)


def _failure(screen: Screen, failure: Failure, phases: Sequence[DrillPhase]) -> None:
    screen.say(f"{failure.phase}: {failure.message}", first="  ", indent=4)
    parts = [part for part in phases if part.outcome == "failed" and "." in part.name]
    for part in parts:
        if part.detail and part.detail not in failure.message:
            screen.say(f"{part.title}: {part.detail.splitlines()[0]}", first="    ", indent=6)
    screen.say(failure.hint, first="  next: ", indent=8)


def _phase(phase: DrillPhase) -> tuple[str, ...]:
    return (
        ("  " if "." in phase.name else "") + phase.title + ("" if phase.outcome == "done" else f" ({phase.outcome})"),
        units.duration(phase.seconds),
        units.size(phase.bytes) if phase.bytes is not None else "",
        units.number(phase.rows) if phase.rows is not None else "",
    )


def _figures(screen: Screen, found: DrillEvidence) -> None:
    server, expected, compared, due = found.server, found.expected, found.compared, found.due
    none_before = "no earlier successful drill on this machine" if found.status == "passed" else ""
    screen.heading("Estimate")
    screen.pairs(
        [
            (
                "Real rollback",
                f"{units.roughly(expected.seconds)} until the switch; writers wait "
                f"{units.roughly(expected.write_outage)}, readers {units.duration(expected.read_outage)}; "
                f"{expected.basis}"
                if expected is not None
                else "",
            ),
            ("Last drill", compared.summary if compared is not None else none_before),
            ("Scratch server", f"PostgreSQL {server.version}, {server.where}"),
            (
                "Next drill",
                f"due on {units.day(due.next)}" if due is not None and due.next is not None else "overdue",
            ),
        ]
    )
    for text in (*server.remarks, *found.cautions):
        screen.say(text, first="  remark: ", indent=10)
    for text in found.left_out:
        screen.say(text, first="  not rehearsed: ", indent=10)


def _store(screen: Screen, found: StoreEvidence) -> None:
    proved = sum(each.proved for each in found.points)
    screen.say(
        f"{units.number(proved)} of {units.counted(len(found.points), 'restore point')} restored and proved, in "
        f"{units.duration(found.seconds)}.",
        style="bold green" if found.status == "passed" else "bold red",
    )
    for each in found.points:
        if not each.proved:
            of = f' ("{each.database}")' if each.database else ""
            screen.say(f"{each.verdict}: {each.name}{of}", style="bold red")
            for text in (each.message, each.hint):
                if text:
                    screen.say(text, first="  ", indent=2)
    screen.heading("Proved")
    columns = (
        TableColumn("restore point", fold=True),
        TableColumn("form"),
        TableColumn("rows", right=True),
        TableColumn("tables", right=True),
        TableColumn("duration", right=True),
    )
    good = [each for each in found.points if each.proved]
    screen.table(
        columns,
        [
            (
                each.name + (f' "{each.database}"' if each.database else ""),
                each.form,
                units.number(each.rows or 0),
                units.number(each.tables or 0),
                units.duration(each.seconds),
            )
            for each in good[:SHOWN]
        ],
    )
    screen.more(len(good), SHOWN, where="evidence.json")
