"""The evidence of a drill on disk: sealed by digests, signed by people, and verified on every read.

It is in the folder ``drills/RUN`` below the state folder. ``evidence.json`` holds the evidence, a SHA-256 over it, and
the signatures, each with a SHA-256 over itself and all before it. The other files are generated from it. ``SHA256SUMS``
has the digests of all files in the format of ``sha256sum --check``. The run's journal has the same digests, so an
undetected change would have to alter both places and every printed copy of the digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from lastgood.command.drill.evidence import DrillEvidence, StoreEvidence
from lastgood.errors import NOT_REACHED, Failed, Refused, UsageError, os_reason
from lastgood.journal import Journal, caller
from lastgood.journal.past_runs import DRILLS
from lastgood.journal.reader import entries
from lastgood.models import Document, Frozen
from lastgood.process import durable

FILE, SUMS = "evidence.json", "SHA256SUMS"
SHOWN = 10


class Signature(Frozen):
    """The sign-off of the evidence by a person. ``user`` and ``host``: where it was given. ``sha256`` covers the
    signature, the evidence and all earlier signatures."""

    by: str
    at: datetime
    user: str
    host: str
    sha256: str


class Sealed(Document):
    """Evidence with its digest and signatures."""

    evidence: Annotated[DrillEvidence | StoreEvidence, Field(discriminator="kind")]
    sha256: str
    signatures: tuple[Signature, ...] = ()


Render = Callable[[Sealed], Mapping[str, str]]
"""Renders the files next to ``evidence.json``: a text per file name."""


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """Evidence on disk. ``problems``: changes since it was written. ``remarks``: what could not be compared."""

    sealed: Sealed
    folder: Path
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnreadableEvidence:
    """Evidence that exists but is unreadable; ``why`` is a sentence."""

    run: str
    why: str


def seal(folder: Path, evidence: DrillEvidence | StoreEvidence, journal: Journal, render: Render) -> Sealed:
    """Write new evidence. Raises OSError."""
    sealed = Sealed(evidence=evidence, sha256=_digest(evidence.document()))
    _write(folder, sealed, journal, render)
    return sealed


def sign(state: Path, run: str, by: str, render: Render) -> StoredEvidence:
    """Add a signature. Raises UsageError for an invalid name, Refused when the evidence was changed, Failed when it
    cannot be written."""
    name = by.strip()
    if not name or not name.isprintable():
        raise UsageError(
            "cannot sign: the name is empty or contains unprintable characters",
            hint="Give the name of the person who signs off: lastgood drill --sign RUN --by NAME",
            state=NOT_REACHED,
        )
    found = read(state, run)
    if found.problems:
        raise Refused(
            f'cannot sign drill "{found.sealed.evidence.run}": its evidence was changed: {found.problems[0]}',
            hint="Run a new drill instead: lastgood drill",
            state=NOT_REACHED,
        )
    sealed = found.sealed
    journal = Journal.find(state, sealed.evidence.run)
    given = {"by": name, "at": datetime.now(UTC), "user": caller.user(), "host": caller.host()}
    signature = Signature.model_validate({**given, "sha256": ""})
    signature = signature.model_copy(update={"sha256": _signed(sealed.sha256, sealed.signatures, signature)})
    sealed = sealed.model_copy(update={"signatures": (*sealed.signatures, signature)})
    try:
        if journal is not None:
            journal.write("signed", by=name, sha256=signature.sha256)
        _write(found.folder, sealed, journal, render)
    except OSError as error:
        raise Failed(
            f'cannot sign drill "{sealed.evidence.run}": {os_reason(error)}',
            hint=f'Make "{found.folder}" writable and free disk space, then sign again.',
            state=NOT_REACHED,
        ) from error
    return StoredEvidence(sealed, found.folder, (), found.remarks)


def read(state: Path, run: str) -> StoredEvidence:
    """Read and verify the evidence of a run. ``run`` may be the end of its name. Raises Refused when it does not exist
    or is unreadable."""
    folder = _folder(state, run)
    try:
        raw = json.loads((folder / FILE).read_bytes())
        sealed = Sealed.model_validate(raw)
    except (OSError, ValueError, ValidationError, RecursionError) as error:
        why = (
            error.strerror or str(error)
            if isinstance(error, OSError)
            else "it was not written by lastgood, or is damaged"
        )
        raise Refused(
            f'cannot read the evidence "{folder / FILE}": {why.lower()}',
            hint="Restore it from a backup of that folder, or run a new drill: lastgood drill",
            state=NOT_REACHED,
        ) from error
    problems, remarks = [], []
    if folder.name != sealed.evidence.run:
        problems.append(f"it belongs to drill {sealed.evidence.run}, but is in the folder of {folder.name}")
    problems += _broken_seals(raw, sealed)
    journal = Journal.find(state, folder.name)
    if journal is None:
        remarks.append("this machine has no journal of the drill; only the digests next to the evidence were compared")
    noted = _by_journal(journal) if journal is not None else None
    if journal is not None and noted is None:
        problems.append("the journal of the drill does not record the seal")
    problems += _changed_files(folder, noted if noted is not None else _sums(folder))
    return StoredEvidence(sealed, folder, tuple(problems), tuple(remarks))


def every(state: Path) -> Iterator[StoredEvidence | UnreadableEvidence]:
    """Yield the evidence of all drills, newest first."""
    for file in sorted((state / DRILLS).glob(f"[0-9]*/{FILE}"), reverse=True):
        try:
            yield read(state, file.parent.name)
        except Refused as error:
            yield UnreadableEvidence(file.parent.name, error.message)


def _folder(state: Path, run: str) -> Path:
    there = sorted((each.parent for each in (state / DRILLS).glob(f"[0-9]*/{FILE}")), reverse=True)
    wanted = [each for each in there if each.name == run] or [
        each for each in there if run and each.name.endswith(f"-{run}")
    ]
    if len(wanted) == 1:
        return wanted[0]
    names = ", ".join(each.name for each in there[:SHOWN]) or "none"
    raise Refused(
        f'cannot find the evidence of drill "{run}": there is none in "{state / DRILLS}"',
        hint=f"Use one of: {names}. Evidence is stored on the machine that ran the drill; --state sets the folder.",
        state=NOT_REACHED,
    )


def _write(folder: Path, sealed: Sealed, journal: Journal | None, render: Render) -> None:
    text = json.dumps(sealed.document(), indent=2, ensure_ascii=False) + "\n"
    files = {FILE: text, **render(sealed)}
    sums = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
    sums |= {each.name: _file_digest(each) for each in sorted(folder.glob("*.jsonl"))}
    # Before the files: files missing after that are detected, but a seal missing in the journal would not be.
    if journal is not None:
        journal.write("sealed", evidence=sealed.sha256, files=sums)
    for name, content in files.items():
        durable.write_private(folder / name, content.encode())
    listed = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    durable.write_private(folder / SUMS, listed.encode())


def _digest(body: Any) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _signed(evidence: str, before: tuple[Signature, ...], signature: Signature) -> str:
    body = signature.model_dump(mode="json", exclude={"sha256"})
    return _digest([evidence, [each.sha256 for each in before], body])


def _broken_seals(raw: Any, sealed: Sealed) -> Iterator[str]:
    # The text as stored, not as this version would serialise it.
    if _digest(raw["evidence"]) != sealed.sha256:
        yield f"{FILE} does not match its SHA-256"
    for number, signature in enumerate(sealed.signatures):
        if _signed(sealed.sha256, sealed.signatures[:number], signature) != signature.sha256:
            yield f"the signature of {signature.by} does not match the evidence"


def _sums(folder: Path) -> Mapping[str, str]:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {SUMS: ""}  # reported as missing
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _by_journal(journal: Journal) -> Mapping[str, str] | None:
    found: Mapping[str, str] | None = None
    for each in entries(journal, "sealed"):
        found = each.document("files")
    return found


def _changed_files(folder: Path, expected: Mapping[str, str]) -> Iterator[str]:
    for name, digest in expected.items():
        try:
            found = _file_digest(folder / name)
        except OSError:
            yield f"{name} is missing"
            continue
        if found != digest:
            yield f"{name} was changed after it was written"


def _file_digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
