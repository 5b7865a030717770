"""What is written down when a restore point is made, as JSON beside the dump: ``<name>.lastgood.json``."""

from __future__ import annotations

import errno
import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from lastgood.dump import links
from lastgood.dump.row_index import RowSpan
from lastgood.errors import Corrupt
from lastgood.facts import Facts
from lastgood.members import Survey
from lastgood.models import Frozen
from lastgood.process import durable

SUFFIX = ".lastgood.json"
LARGEST = 1 << 28
"""Bytes of a manifest: that of 100,000 tables has some 100 MB."""

Form = Literal["plain", "custom", "directory"]
Purpose = Literal["backup", "emergency"]
Outcome = Literal["deployed", "changed nothing"]


class DeploymentNote(Frozen):
    """What became of a deployment after its restore point was made."""

    run: str
    outcome: Outcome


class Manifest(Frozen):
    """All that is known of a restore point.

    ``made_at`` is the server's clock when the snapshot was taken, ``lsn`` the position in its WAL then. ``size``
    (bytes) and ``sha256`` are those of ``DumpSource``. ``options`` are pg_dump's, without those that say where
    to connect to. The sequences among ``facts`` are the dump's: a sequence is not part of a snapshot. ``members``: what
    the dump does not hold of its extensions; None in a manifest that was made before that was looked up. ``rows_at``:
    where the rows of a plain dump stand; None where that is not known.
    ``deployment``: what became of the one that it was made for, None where it was made for none or that was taken back.
    """

    format: Literal[1] = 1
    tool_version: str
    kind: Literal["dump"] = "dump"
    purpose: Purpose = "backup"
    label: str = ""
    database: str
    made_at: AwareDatetime
    server_version: str
    pg_dump_version: str
    form: Form
    options: tuple[str, ...]
    lsn: str | None
    size: int
    sha256: str
    facts: Facts
    rows_at: tuple[RowSpan, ...] | None = None
    members: Survey | None = None
    deployment: DeploymentNote | None = None

    @property
    def migration(self) -> str | None:
        """The newest migration that was applied, None where no tool's table is known."""
        return self.facts.migration.version if self.facts.migration is not None else None

    @property
    def server_clock(self) -> datetime:
        """``made_at``, in the words of the procedure."""
        return self.made_at


def manifest_path(point: Path) -> Path:
    """Where the manifest of a dump lies."""
    return point.with_name(point.name + SUFFIX)


def manifest_of(point: Path) -> Manifest | None:
    """The manifest beside a dump, None when there is none. Raises Corrupt when it is there and can't be understood."""
    path = manifest_path(point)
    try:
        text = _small(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None  # somebody gave a dump a name that leaves no room for one beside it
        raise Corrupt(f'cannot read the manifest "{path}": {(error.strerror or str(error)).lower()}') from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(place) for place in first["loc"])
        raise Corrupt(
            f'cannot read the manifest "{path}": {where + ": " if where else ""}{first["msg"].lower()}',
            hint="The dump itself may be whole. Move the manifest away to use the dump without it.",
        ) from error


def _small(path: Path) -> bytes:
    """The content of a manifest. Raises OSError, Corrupt where none can be that large, Unsafe for a link elsewhere."""
    if path.is_symlink() and links.leads_out(path, path.parent):
        raise links.outside(path)
    with path.open("rb") as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise Corrupt(
            f'cannot read the manifest "{path}": it has more than {LARGEST >> 20} MB',
            hint="The dump itself may be whole. Move the manifest away to use the dump without it.",
        )
    return text


def has_manifest(point: Path) -> bool:
    """Whether one lies beside it; beside a name that leaves no room for another there is none."""
    return os.path.lexists(manifest_path(point))


def write_manifest(point: Path, manifest: Manifest) -> None:
    """Writes the manifest of a dump that has its final name already. Raises OSError; then there is no manifest."""
    with durable.writing(manifest_path(point)) as file:
        file.write(manifest.model_dump_json(indent=1).encode() + b"\n")


def note_deployment(point: Path, note: DeploymentNote) -> None:
    """Record in the manifest what became of the deployment that the point was made for. Raises OSError, Corrupt."""
    manifest = manifest_of(point)
    if manifest is not None:
        write_manifest(point, manifest.model_copy(update={"deployment": note}))
