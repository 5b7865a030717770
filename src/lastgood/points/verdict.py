"""Verification of a restore point, from end to end: is it complete, and does it match its manifest?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from lastgood.config.signing import Signing
from lastgood.context import BACKGROUND, Context
from lastgood.dump.archive.members import members
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.files.row_index import PendingDigest, RowSpan
from lastgood.dump.names import shown
from lastgood.dump.reader import WhichDatabase
from lastgood.dump.summary import DumpSummary
from lastgood.errors import BadPoint, Corrupt, Foreign, Incomplete, Refused, Unsafe
from lastgood.events import Caution, Note
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.facts.of_dump import facts_of_dump
from lastgood.points.manifest import manifest_path
from lastgood.points.partial import MissingPart, OrphanRows, PartialPoint, missing_part, orphan_rows
from lastgood.points.point import RestorePoint, confine_errors, source_of

State = Literal["valid", "partial", "incomplete", "corrupt", "unsafe", "foreign", "differs", "unusable"]
# Every cluster has these; application data is in other databases.
DEFAULT_DATABASES = frozenset({"postgres", "template1"})


class Differs(Corrupt):
    """A restore point is complete but differs from its manifest; ``facts`` is what it really contains."""

    code = "point_differs"

    def __init__(self, message: str, *, hint: str, facts: Facts) -> None:
        super().__init__(message, hint=hint)
        self.facts = facts


_STATES: tuple[tuple[type[BadPoint], State], ...] = (
    (Differs, "differs"),
    (PartialPoint, "partial"),
    (Incomplete, "incomplete"),
    (Corrupt, "corrupt"),
    (Unsafe, "unsafe"),
    (Foreign, "foreign"),
)


@dataclass(frozen=True, slots=True)
class PointVerdict:
    """The result of reading a restore point to its end.

    ``message`` and ``hint`` describe the fault; ``line`` (from 1) and ``offset`` (bytes of the decompressed text, from
    0) locate it, where known. ``facts`` is what the point contains, None unless it could be read to its end. State
    ``partial``: a valid file with definitions only or rows only. ``notes``: what was skipped. ``cautions``: signs that
    the file was truncated after its end marker, or changed by a tool. ``has_acls``: whether it has privileges, None
    unless it could be read to its end.
    """

    state: State
    message: str = ""
    hint: str = ""
    line: int | None = None
    offset: int | None = None
    facts: Facts | None = None
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    has_acls: bool | None = None

    @property
    def valid(self) -> bool:
        """Whether the live database can be rolled back to it."""
        return self.state == "valid"


@dataclass(frozen=True, slots=True)
class VerifiedPoint:
    """A restore point that was read from end to end and passed verification.

    ``facts`` are those of its manifest, where it has one: the same content, plus definitions that a dump does not show.
    ``lack``: what it lacks of a whole database; ``orphans``: rows that reference missing rows.
    """

    point: RestorePoint
    source: DumpSource
    facts: Facts
    summary: DumpSummary
    lack: MissingPart | None = None
    orphans: tuple[OrphanRows, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Parts that were skipped, or are absent by design, in sentences without a full stop."""
        return (*self.source.notes, *self.summary.remarks, *self.summary.notes)


def read_whole(
    point: RestorePoint,
    *,
    database: str | None = None,
    skim: bool = False,
    stage: str = "verify",
    skip_rows: bool = False,
    context: Context = BACKGROUND,
) -> VerifiedPoint:
    """Read the point to its end and compare it with its manifest; emits a Note for each skipped part.

    ``skim``: the rows are only counted; with a manifest, the SHA-256 covers their content. ``skip_rows``: if the
    manifest has the positions of the rows, these are skipped unread, and the load verifies the SHA-256, which is in
    ``source.pending_digest``.

    ``database`` selects one from a cluster dump; without it, a cluster dump with a single application database counts
    as a dump of that one. Raises WhichDatabase where that is ambiguous, BadPoint, Refused when a program to read it
    with is missing, Interrupted.
    """
    if point.unsigned:
        context.emit(Caution(f"{point.path.name}: {point.unsigned}; trusted: {Signing.trusted}"))
    with confine_errors(point.path):
        # What a replaced dump contains must not be executed before that is noticed.
        skip_rows = skip_rows and Signing.key_file is None
        unread = _without_rows(point, database, stage, context) if skip_rows else None
        return unread or _read_whole(point, database, skim, stage, context)


def _without_rows(point: RestorePoint, database: str | None, stage: str, context: Context) -> VerifiedPoint | None:
    """A point of our own, read except for its rows; None on any mismatch with its manifest, which a complete read has
    to locate."""
    manifest = point.manifest
    if manifest is None or point.problem or manifest.rows_at is None or point.files:
        return None
    try:
        source = source_of(point)
        if (
            source.kind != "plain"
            or source.compression
            or source.size != manifest.size
            or _modified_since_manifest(point.path)
        ):
            return None
        source.skip_rows(manifest.rows_at, PendingDigest(manifest.sha256, source.fingerprint()))
        _, summary = _reader(point, source, stage, context)(database=database, skim=True)
    except BadPoint:
        return None
    positions = tuple(RowSpan(begin=each.begin, size=each.size, rows=each.rows) for each in summary.script.sections)
    if positions != manifest.rows_at or summary.notes or source.notes or not summary.script.in_place:
        return None
    source.row_index = None  # the next reading needs the rows
    return VerifiedPoint(point, source, manifest.facts, summary)


def _reader(
    point: RestorePoint, source: DumpSource, stage: str, context: Context
) -> Callable[..., tuple[Facts, DumpSummary]]:
    return partial(
        facts_of_dump,
        source,
        time_zone=point.time_zone,
        context=context,
        stage=stage,
        measure=lambda: (source.position, source.size),
    )


def _modified_since_manifest(path: Path) -> bool:
    """Whether the file was modified after its manifest was written. Then it is read whole before anything begins, so
    that an older restore point can be used if a byte was changed."""
    return path.stat().st_mtime_ns > manifest_path(path).stat().st_mtime_ns


def _read_whole(point: RestorePoint, database: str | None, skim: bool, stage: str, context: Context) -> VerifiedPoint:
    source = source_of(point)
    facts_of = _reader(point, source, stage, context)
    with_manifest = point.manifest is not None and not point.problem
    with ThreadPoolExecutor(1, thread_name_prefix="lastgood-sha256") as pool:
        digest = pool.submit(source.sha256) if skim and with_manifest else None
        try:
            facts, summary = facts_of(database=database, skim=skim)
        except WhichDatabase as error:
            own = [name for name in error.databases if name not in DEFAULT_DATABASES]
            if database is not None or len(own) != 1:
                raise
            context.emit(Note(f'it is a dump of a whole cluster; "{own[0]}" is its only application database'))
            facts, summary = facts_of(database=own[0], skim=skim)
        _check_contents(source, summary)
        if digest is not None and point.manifest is not None and digest.result() == point.manifest.sha256:
            return VerifiedPoint(point, source, point.manifest.facts, summary)
    if digest is not None:
        # The SHA-256 differs: read the rows to find out where.
        return _read_whole(point, database, False, stage, context)
    _check(point, facts, source)
    lack = missing_part(point, summary)
    without_match = orphan_rows(source, summary) if lack is not None and lack.what == "rows" else ()
    of_manifest = point.manifest.facts if point.manifest is not None else facts
    whole = VerifiedPoint(point, source, of_manifest, summary, lack, without_match)
    for text in whole.notes:
        context.emit(Note(text))
    for text in whole.summary.cautions:
        context.emit(Caution(text))
    return whole


def _check_contents(source: DumpSource, summary: DumpSummary) -> None:
    """Compare an archive's table of contents with the data that came out of it. pg_restore trusts a damaged table of
    contents, and leaves out what it does not name. Raises Corrupt."""
    listed = members(source) if source.archive_version is not None else None
    if listed is None:
        return
    expected = Counter(member.copy for member in listed)
    loaded = Counter(section.start.copy for section in summary.script.sections)
    if expected != loaded:
        differing = next(iter((expected - loaded) or (loaded - expected)))
        raise Corrupt(
            f'cannot use "{source.path}": its table of contents and its data disagree about '
            f'"{shown(differing.decode("utf-8", "replace"))}"',
            hint="Choose another restore point: the file is damaged.",
        )


def state_of(error: BadPoint) -> State:
    """The state of a restore point whose verification raised ``error``."""
    return next((name for kind, name in _STATES if isinstance(error, kind)), "unusable")


def verify(
    point: RestorePoint,
    *,
    database: str | None = None,
    skim: bool = False,
    context: Context = BACKGROUND,
) -> PointVerdict:
    """Read the whole point and verify its end, encoding and statements, and with a manifest its SHA-256 and facts.
    ``skim``: see ``read_whole``.

    In a cluster dump, verify every database, or the one that ``database`` names. If the program to read it is missing,
    the verdict is ``unusable``. Raises Interrupted.
    """
    try:
        whole = read_whole(point, database=database, skim=skim, context=context)
    except WhichDatabase as error:
        if database is not None:
            return PointVerdict("unusable", str(error), error.hint)
        verdicts = [verify(point, database=name, skim=skim, context=context) for name in error.databases]
        worst = next((each for each in verdicts if each.state not in ("valid", "partial")), None)
        names = ", ".join(f'"{shown(name)}"' for name in error.databases)
        text = f"a dump of a whole cluster, with the databases {names}; --database chooses one"
        return worst or PointVerdict("valid", text, notes=verdicts[0].notes, cautions=verdicts[0].cautions)
    except BadPoint as error:
        facts = error.facts if isinstance(error, Differs) else None
        return PointVerdict(state_of(error), str(error), error.hint, error.line, error.offset, facts)
    except Refused as error:
        return PointVerdict("unusable", str(error), error.hint)
    message, hint, lack = "", "", whole.lack
    if lack is not None:
        message, hint = "; ".join([lack.message, *map(str, whole.orphans)]), lack.hint
    return PointVerdict(
        "partial" if lack is not None else "valid",
        message,
        hint,
        facts=whole.facts,
        notes=whole.notes,
        cautions=tuple(whole.summary.cautions),
        has_acls=None if lack is not None else whole.summary.has_acls,
    )


def _check(point: RestorePoint, facts: Facts, source: DumpSource) -> None:
    """Compare ``facts``, just read from ``source``, and its SHA-256 with the manifest. Raises Differs."""
    if point.problem:
        raise Differs(point.problem, hint=point.remedy, facts=facts)
    if point.manifest is None:
        return
    # The content first: it shows the difference, while a SHA-256 only shows that there is one.
    comparison = compare(point.manifest.facts, facts)
    if comparison.differences:
        first = comparison.differences[0]
        more = len(comparison.differences) - 1
        raise Differs(
            f'cannot use "{point.path}": it differs from its manifest: '
            f"{first.of}: {first.expected} expected, {first.found} found" + (f", and {more} more" if more else ""),
            hint="The file was changed. Choose another restore point: lastgood points",
            facts=facts,
        )
    if source.sha256() != point.manifest.sha256:
        raise Differs(
            f'cannot use "{point.path}": its SHA-256 differs from that in its manifest',
            hint="The file was changed, but not its rows. Choose another restore point: lastgood points",
            facts=facts,
        )
