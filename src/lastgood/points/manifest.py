"""The manifest of a restore point: a JSON file next to the dump, ``<name>.lastgood.json``."""

from __future__ import annotations

import errno
import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from lastgood.dump.files import links
from lastgood.dump.files.row_index import RowSpan
from lastgood.errors import Corrupt, os_reason
from lastgood.facts import Facts
from lastgood.members import MemberSurvey
from lastgood.models import Frozen
from lastgood.points import signature
from lastgood.process import durable

SUFFIX = ".lastgood.json"
MOST_BYTES = 1 << 28
"""Bytes of a manifest: that of 100,000 tables has some 100 MB."""

Form = Literal["plain", "custom", "directory"]
Purpose = Literal["backup", "emergency"]
Outcome = Literal["deployed", "changed nothing"]


class DeploymentNote(Frozen):
    """The outcome of a deployment after its restore point was made."""

    run: str
    outcome: Outcome


class Manifest(Frozen):
    """The recorded properties of a restore point.

    ``made_at`` is the server's clock when the snapshot was taken, ``lsn`` the position in its WAL then, and
    ``transaction`` the number of its next transaction; ``system`` identifies the cluster. The last two are None in
    manifests of older versions. ``size`` (bytes) and ``sha256`` are those of ``DumpSource``. ``options`` are pg_dump's,
    without those for the connection. The sequences among ``facts`` are the dump's: a sequence is not part of a
    snapshot. ``members``: what the dump does not hold of its extensions; None in manifests of older versions.
    ``rows_at``: the positions of the rows in a plain dump; None where they are unknown. ``deployment``: the outcome of
    the deployment that it was made for, None without one or after it was taken back. ``signature``: see
    ``lastgood.signature``; empty if no key was configured.
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
    transaction: int | None = None
    system: int | None = None
    size: int
    sha256: str
    facts: Facts
    rows_at: tuple[RowSpan, ...] | None = None
    members: MemberSurvey | None = None
    deployment: DeploymentNote | None = None
    signature: str = ""

    @property
    def migration(self) -> str | None:
        """The newest applied migration, None without the table of a known migration tool."""
        return self.facts.migration.version if self.facts.migration is not None else None

    @property
    def server_clock(self) -> datetime:
        """``made_at``, under the name that runs use."""
        return self.made_at


def manifest_path(point: Path) -> Path:
    """The path of the manifest of a dump."""
    return point.with_name(point.name + SUFFIX)


def manifest_of(point: Path) -> Manifest | None:
    """The manifest of a dump, None without one. Raises Corrupt when it can't be read."""
    return signed_manifest_of(point)[0]


def signed_manifest_of(point: Path) -> tuple[Manifest | None, str]:
    """The manifest of a dump, and why it does not prove the origin of the dump, if a key is configured. Raises Corrupt
    when it can't be read, Refused when the key can't."""
    path = manifest_path(point)
    try:
        text = _read_limited(path)
    except FileNotFoundError:
        return None, signature.why_not_signed(None)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            # The dump's name is too long to append the suffix: there is no manifest.
            return None, signature.why_not_signed(None)
        raise Corrupt(f'cannot read the manifest "{path}": {os_reason(error)}') from error
    try:
        return Manifest.model_validate_json(text), signature.why_not_signed(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(place) for place in first["loc"])
        raise Corrupt(
            f'cannot read the manifest "{path}": {where + ": " if where else ""}{first["msg"].lower()}',
            hint="The dump itself may be whole. Move the manifest away to use the dump without it.",
        ) from error


def _read_limited(path: Path) -> bytes:
    """The content of a manifest. Raises OSError, Corrupt for a file that is too large, Unsafe for a link out of its
    folder."""
    if path.is_symlink() and links.leads_out(path, path.parent):
        raise links.outside(path)
    with path.open("rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise Corrupt(
            f'cannot read the manifest "{path}": it has more than {MOST_BYTES >> 20} MB',
            hint="The dump itself may be whole. Move the manifest away to use the dump without it.",
        )
    return text


def has_manifest(point: Path) -> bool:
    """Whether a manifest exists; False for a dump whose name is too long to append the suffix."""
    return os.path.lexists(manifest_path(point))


def write_manifest(point: Path, manifest: Manifest) -> None:
    """Write the manifest of a dump that has its final name already, signed if a key is configured. Raises OSError and
    Refused; then there is no manifest."""
    text = signature.signed(manifest.model_dump_json(indent=1).encode())
    with durable.written_file(manifest_path(point)) as file:
        file.write(text + b"\n")


def record_deployment(point: Path, note: DeploymentNote) -> None:
    """Record in the manifest the outcome of the deployment that the point was made for. Raises OSError, Corrupt."""
    manifest = manifest_of(point)
    if manifest is not None:
        write_manifest(point, manifest.model_copy(update={"deployment": note}))
