"""Creation of a restore point: a dump and its facts from one snapshot, read back before it is published."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from lastgood import __version__, fault
from lastgood.context import BACKGROUND, Context
from lastgood.dump.files.formats import open_dump
from lastgood.dump.files.row_index import RowSpan
from lastgood.dump.rows.encodings import ANY_BYTES
from lastgood.errors import NOT_REACHED, BadPoint, Failed, Interrupted, LastgoodError, Unsafe, os_reason
from lastgood.events import Caution, Emit, Note, silent
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.facts.of_database import PINNED, facts_of_database
from lastgood.facts.of_dump import facts_of_dump
from lastgood.members import MemberSurvey
from lastgood.members.survey import survey
from lastgood.points import signature
from lastgood.points.manifest import Form, Manifest, Purpose, manifest_path, write_manifest
from lastgood.points.point import RestorePoint, pg_restore_for
from lastgood.postgres import binaries
from lastgood.postgres import errors as server_errors
from lastgood.postgres.access import row_security
from lastgood.postgres.identity import identity
from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.server import Connection, Target, only_row
from lastgood.postgres.sessions import locked_tables
from lastgood.process import durable, run
from lastgood.text.quoting import identifier

EXTENSIONS: dict[Form, str] = {"plain": ".sql", "custom": ".dump", "directory": ""}
_TRY_AGAIN = (
    "Nothing is left behind. Look up the error with lastgood explain, fix the cause, then run the command again."
)
_PERMISSION = (
    "Nothing is left behind. Connect as a superuser, or have a superuser run: GRANT pg_read_all_data TO {role}; "
    "then run the command again."
)
_UNSAFE = (
    "Nothing is left behind. lastgood cannot restore a dump of this database while it contains that; use pg_dump "
    "with pg_restore or psql."
)
_INTERRUPTED = "Nothing is left behind. Create another one: lastgood backup"
_DIFFERS = (
    "Nothing is left behind. Run lastgood backup again while no schema change is in progress. "
    "If it fails again, report this message."
)
_DISK_FULL = "Nothing is left behind. Free space there or name another folder with --store, then run the command again."


def take(
    target: Target,
    store: Path,
    *,
    label: str = "",
    form: Form = "plain",
    kind: Purpose = "backup",
    context: Context = BACKGROUND,
) -> RestorePoint:
    """Dump ``target``'s database into ``store`` and return the point: complete, on disk, read back and equal to what
    the database contained. Readers and writers of the database are not blocked.

    The dump and its facts come from one snapshot. The time in the name and in the manifest is the server's. Emits
    Progress of stage ``kind``. A failure leaves nothing behind; a killed process may leave a ``.partial`` file. Raises
    Failed, Refused (no pg_dump of the server's version), and Interrupted.
    """
    signature.key()  # an unusable one must not be noticed after the dump
    with _connected(target, store, context.emit) as connection:
        moment = _begin(connection)
        # The program first: without it there is no reason to wait for locks.
        program = binaries.find("pg_dump", at_least=connection.info.server_version // 10000)
        with _reserve_files(store, _name(moment, label), form) as (temporary, final):
            facts = _dump(target, connection, moment, program, form, temporary, kind, context)
            # A rollback's plan has reported it before the emergency backup.
            members = _members(connection, target, moment.database, context.emit if kind == "backup" else silent)
            fault.point("emergency.after_dump")
            connection.execute("ROLLBACK")
            source = open_dump(temporary, pg_restore=pg_restore_for)
            facts, rows_at = _read_back(temporary, final.name, facts, kind, context)
            manifest = Manifest(
                tool_version=__version__,
                purpose=kind,
                label=label,
                database=moment.database,
                made_at=moment.time,
                server_version=moment.server_version,
                pg_dump_version=program.version,
                form=form,
                options=tuple(_options(form, moment.encoding)),
                lsn=moment.lsn,
                transaction=moment.transaction,
                system=moment.system,
                size=source.size,
                sha256=source.sha256(),
                facts=facts,
                members=members,
                rows_at=rows_at,
            )
            if form == "directory":
                for file in temporary.iterdir():
                    file.chmod(0o600)
            durable.publish(temporary, final)
            # Last: a dump without a manifest is still a restore point, but not the reverse.
            write_manifest(final, manifest)
    return RestorePoint(final, manifest.made_at, "manifest", manifest.size, manifest)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The snapshot, and what the server reports with it: its time, database, version, WAL position and transaction.
    ``encoding``: of the dump."""

    snapshot: str
    time: datetime
    database: str
    server_version: str
    lsn: str | None
    transaction: int
    system: int | None
    encoding: str


@contextlib.contextmanager
def _connected(target: Target, store: Path, emit: Emit) -> Iterator[Connection]:
    """Connect for a backup; inside the block, errors of the server and the disk become Failed."""
    named = f'database "{target.keywords["dbname"]}"' if target.keywords.get("dbname") else "the database"
    try:
        if not store.exists():
            emit(Note(f'the folder "{store}" does not exist yet; it is created'))
        durable.private_folder(store)
        try:
            connection = target.connect(application_name="lastgood backup")
        except psycopg.OperationalError as error:
            raise server_errors.failed(error, f"back up {named}", context="connect", state=NOT_REACHED) from error
        with connection:
            if hidden := row_security.hiding_tables(connection):
                raise Failed(
                    f'cannot back up {named} as role "{connection.info.user}": row-level security hides rows from it '
                    f"in {row_security.first_names(hidden)}",
                    hint=row_security.remedy(hidden, "Make the backup"),
                )
            for each in locked_tables(connection):
                emit(
                    Caution(
                        f'{each.holder} has locked "{each.schema}"."{each.name}" against readers; the backup '
                        f"waits for it. To end it: {each.end_command}"
                    )
                )
            yield connection
    except psycopg.Error as error:
        raise server_errors.failed(error, f"back up {named}") from error
    except OSError as error:
        why = os_reason(error)
        raise Failed(
            f'cannot back up {named} to "{store}": {why}',
            hint=_DISK_FULL if error.errno == errno.ENOSPC else f"{_TRY_AGAIN} Or name another folder with --store.",
        ) from error


def _begin(connection: Connection) -> _Snapshot:
    system = identity(connection).system
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    snapshot, time, database, version, lsn, transaction = only_row(
        connection,
        # The clock is read after the snapshot is taken: no row in it bears the stamp of a later moment.
        "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.clock_timestamp(), current_database()::text,"
        " current_setting('server_version'),"
        " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text,"
        " pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8",
    )
    # A SQL_ASCII database may have bytes that are not valid UTF-8.
    stored = connection.info.parameter_status("server_encoding")
    encoding = ANY_BYTES if stored == ANY_BYTES else "UTF8"
    return _Snapshot(snapshot, time.astimezone(UTC), database, version, lsn, transaction, system, encoding)


def _name(moment: _Snapshot, label: str) -> str:
    """The file name without its extension. Characters that are unsafe in a file system or a shell become
    underscores."""
    parts = [moment.database, f"{moment.time:%Y%m%d_%H%M%S}", *([label] if label else [])]
    return re.sub(r"[^\w.+=@-]", "_", "_".join(parts)).lstrip(".-")[:120]


@contextlib.contextmanager
def _reserve_files(store: Path, name: str, form: Form) -> Iterator[tuple[Path, Path]]:
    """An empty private file (or folder), and its final name. When the block fails, both are removed."""
    number = 1
    while True:
        final = store / (name + (f"_{number}" if number > 1 else "") + EXTENSIONS[form])
        temporary = final.with_name(f".{final.name}.partial")
        number += 1
        if final.exists() or manifest_path(final).exists():
            continue
        try:
            if form == "directory":
                temporary.mkdir(mode=0o700)
            else:
                # pg_dump keeps the mode of an existing file.
                temporary.touch(mode=0o600, exist_ok=False)
            break
        except FileExistsError:
            # A backup of the same second, or the remains of a killed one.
            continue
    try:
        yield temporary, final
    except BaseException:
        for path in (temporary, manifest_path(final), final):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
        raise


def _options(form: Form, encoding: str) -> list[str]:
    return [f"--format={form}", f"--encoding={encoding}", "--no-sync", "--no-password"]


def _dump(
    target: Target,
    connection: Connection,
    moment: _Snapshot,
    program: binaries.Program,
    form: Form,
    file: Path,
    kind: Purpose,
    context: Context,
) -> Facts:
    """Run pg_dump in a thread and read the facts here, both in the snapshot of ``connection``'s transaction."""
    conninfo, environment = _like_facts(connection, target.quiet).child(moment.database)
    arguments: list[str | Path] = [
        program.path,
        *_options(form, moment.encoding),
        f"--snapshot={moment.snapshot}",
        f"--file={file}",
        f"--dbname={conninfo}",
        *(f"--exclude-schema={identifier(name)}" for name in sorted(schemas_of_runs(connection))),
    ]
    # Time stamps are compared as text: UTC on both sides. TZ is for the times that pg_dump itself writes.
    environment = {**environment, "PGTZ": "UTC", "TZ": "UTC", "PGAPPNAME": "lastgood pg_dump"}
    stop = threading.Event()
    failed: list[Exception] = []

    def dump() -> None:
        try:
            run.run(arguments, environment=environment, cancelled=context.until(stop.is_set).cancelled)
        except Exception as error:
            failed.append(error)
            # The concurrent read may wait for hours for a lock of another session, without checking for this failure.
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=5)

    thread = threading.Thread(target=dump, name="lastgood-pg_dump", daemon=True)
    thread.start()
    try:
        facts = facts_of_database(
            connection,
            newest=False,  # of equal rows, the dump tells it
            encoding=moment.encoding,
            context=context.until(lambda: bool(failed)),
            stage=kind,
        )
        thread.join()
    except (Interrupted, psycopg.errors.QueryCanceled) as ended:
        if context.cancelled() or (isinstance(ended, Interrupted) and not failed):
            raise _interrupted(moment.database) from None
        if not failed:
            raise
    except BaseException:
        # Our own error is the cause; pg_dump would only report that it was stopped.
        failed.clear()
        raise
    finally:
        stop.set()
        thread.join()
    if context.cancelled():
        raise _interrupted(moment.database)
    if failed:
        error = failed[0]
        if isinstance(error, run.ChildFailed):
            full = os.strerror(errno.ENOSPC) in str(error)
            raise Failed(
                f'cannot back up database "{moment.database}": {error}', hint=_hint(error, connection, full=full)
            ) from error
        raise error
    return facts


# Settings that change the text of rows and that pg_dump does not set.
_TEXT_SETTINGS = """
SELECT name::text, reset_val FROM pg_catalog.pg_settings
WHERE name = 'bytea_output' OR (name = 'lc_monetary' AND EXISTS (
  SELECT FROM pg_catalog.pg_attribute
  WHERE atttypid IN ('pg_catalog.money'::regtype, 'pg_catalog.money[]'::regtype) AND attnum > 0))
"""


def _like_facts(connection: Connection, target: Target) -> Target:
    """The target whose sessions write rows as the facts are read, whatever the database or the role has set."""
    pinned = dict(PINNED)
    found = connection.execute(_TEXT_SETTINGS)
    return target.with_settings({name: pinned[name] for name, value in found if value != pinned[name]})


def _hint(error: run.ChildFailed, connection: Connection, *, full: bool) -> str:
    """The hint for a failed pg_dump."""
    if full:
        return _DISK_FULL
    if error.status is not None and error.status < 0:
        return _INTERRUPTED
    if "permission denied" in str(error):
        return _PERMISSION.format(role=sql.Identifier(connection.info.user).as_string(connection))
    return _TRY_AGAIN


def _members(connection: Connection, target: Target, database: str, emit: Emit) -> MemberSurvey:
    """The parts of the database's extensions that the dump does not hold; emits a Caution for each."""
    members = survey(connection, target.at(database))
    for each in members.extensions:
        emit(Caution(f'no dump holds the changes to extension "{each}": {members.summary(each)}'))
    for unknown in members.unknown:
        emit(Note(f'cannot determine whether extension "{unknown.extension}" was changed: {unknown.why}'))
    return members


def _interrupted(database: str) -> LastgoodError:
    return Interrupted(f'cannot finish the backup of database "{database}": interrupted', hint=_INTERRUPTED)


def _read_back(
    path: Path, name: str, facts: Facts, kind: Purpose, context: Context
) -> tuple[Facts, tuple[RowSpan, ...] | None]:
    """Verify the new dump. Returns the database's facts, with the dump's own sequences and what is read of equal rows,
    and the positions of the rows in a plain dump.

    nextval is not part of a snapshot: a sequence may advance between two readings.
    """
    try:
        source = open_dump(path, pg_restore=pg_restore_for)
        dumped, summary = facts_of_dump(source, time_zone="UTC", context=context, stage=kind)
    except BadPoint as error:
        hint = _UNSAFE if isinstance(error, Unsafe) else _TRY_AGAIN
        raise Failed(f'cannot use the backup "{name}": {error}', hint=hint) from error
    except Interrupted:
        raise _interrupted(facts.database or "") from None
    names = [{(one.schema_name, one.name) for one in side.sequences} for side in (facts, dumped)]
    if names[0] == names[1] and not dumped.not_recorded:
        facts = facts.model_copy(update={"sequences": dumped.sequences})
    comparison = compare(facts, dumped)
    if not comparison.exact:
        first = comparison.differences[0] if comparison.differences else None
        why = (
            f"{first.of}: {first.expected} in the database, {first.found} in the dump"
            if first is not None
            else comparison.not_compared[0]
        )
        raise Failed(f'cannot use the backup "{name}": it differs from the source database: {why}', hint=_DIFFERS)
    of_dump = {(each.schema_name, each.name): each for each in dumped.tables}
    tables = [
        each.model_copy(update={"newest": theirs.newest, "text": theirs.text})
        for each in facts.tables
        if (theirs := of_dump[each.schema_name, each.name])
    ]
    facts = facts.model_copy(update={"tables": tuple(tables)})
    in_place = source.kind == "plain" and not source.compression and summary.script.in_place and not summary.notes
    spans = tuple(RowSpan(begin=each.begin, size=each.size, rows=each.rows) for each in summary.script.sections)
    return facts, spans if in_place else None
