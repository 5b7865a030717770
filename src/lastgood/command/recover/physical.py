"""Physical backups and archived WAL, recognised by their characteristic files. They are only reported: restoring one
needs a server of its own, which is beyond a tool that works through SQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic

from lastgood.command.recover.evidence import Physical
from lastgood.errors import os_reason
from lastgood.text.units import counted

SECONDS = 1.0
DEPTH = 2
ENTRIES = 5000
USUAL = ("/var/lib/pgbackrest", "/var/lib/barman", "/var/lib/postgresql/wal_archive")
_WAL = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(?:\.partial)?(?:\.(?:gz|lz4|zst|xz|lzma|br|bz2))?\Z")
_IN_LABEL = re.compile(r"^START TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (\S+)", re.MULTILINE)
_IN_NAME = re.compile(r"(\d{8})-?T?(\d{6})")
# With segments of 16 MB, the default, so many share the same eight digits in the middle.
SEGMENTS = 0x100
ON_ANOTHER = "then dump it with lastgood backup --db and use that with lastgood rollback"
_COPY = (
    "Copy it to an empty folder, set restore_command and recovery_target_time in its postgresql.conf, create "
    f"recovery.signal, and start a server on it on another port; {ON_ANOTHER}."
)


def find(folders: Sequence[Path], unseen: list[str]) -> tuple[Physical, ...]:
    """Find physical backups and archived WAL in these folders and in near subfolders."""
    until = monotonic() + SECONDS
    found: dict[Path, Physical] = {}
    seen: set[Path] = set()
    waiting = [(folder, 0) for folder in folders]
    while waiting:
        folder, depth = waiting.pop(0)
        if monotonic() > until:
            unseen.append(f'physical backups, from "{folder}" on: time limit reached')
            break
        try:
            resolved = folder.resolve()
            if resolved in seen or not folder.is_dir():
                continue
            seen.add(resolved)
            entries = sorted(folder.iterdir())[:ENTRIES]
        except OSError as error:
            unseen.append(f'the folder "{folder}": {os_reason(error)}')
            continue
        one = recognise(folder, entries)
        if one is not None:
            found[resolved] = one
        elif depth < DEPTH:
            with suppress(OSError):
                waiting += [(entry, depth + 1) for entry in entries if entry.is_dir() and not entry.is_symlink()]
    return tuple(sorted(found.values(), key=lambda each: (each.kind, str(each.path))))


def recognise(folder: Path, entries: Sequence[Path]) -> Physical | None:
    """Recognise a folder by its entries; None if it is no physical backup."""
    names = {entry.name for entry in entries}
    for test in (_data_folder, _tar_backup, _pgbackrest, _wal_g, _barman):
        found = test(folder, names)
        if found is not None:
            return found
    return _archived_wal(folder, entries)


def _data_folder(folder: Path, names: set[str]) -> Physical | None:
    if not {"PG_VERSION", "global"} <= names:
        return None
    version = f"PostgreSQL {_text(folder / 'PG_VERSION').strip()}"
    if "postmaster.pid" in names:
        return None  # a server runs on it, or ran until it crashed: not a backup
    if "backup_label" not in names:
        moment = _time(folder / "global")
        return Physical("a server's data folder", folder, f"{version}, copied or stopped", moment, moment, _COPY)
    started = _started(folder / "backup_label")
    detail = version + (", with a manifest: pg_verifybackup checks it" if "backup_manifest" in names else "")
    return Physical("a base backup", folder, detail, started, started, _COPY)


def _tar_backup(folder: Path, names: set[str]) -> Physical | None:
    base = next((name for name in sorted(names) if re.fullmatch(r"base\.tar(\.(gz|lz4|zst))?", name)), None)
    if base is None or not ("backup_manifest" in names or any(name.startswith("pg_wal.tar") for name in names)):
        return None
    moment = _time(folder / base)
    step = (
        "Unpack base.tar into an empty folder, and pg_wal.tar into its pg_wal; start a server on it on another port; "
    )
    return Physical("a base backup in tar files", folder, base, moment, moment, f"{step}{ON_ANOTHER}.")


def _pgbackrest(folder: Path, names: set[str]) -> Physical | None:
    if not {"backup", "archive"} <= names:
        return None
    stanzas = sorted(path.parent.name for path in _glob(folder, "backup/*/backup.info"))
    if not stanzas:
        return None
    labels = sorted(path.name for path in _glob(folder, "backup/*/[0-9]*-[0-9]*[FDI]"))
    times = [moment for label in labels if (moment := _in_name(label[-16:])) is not None]
    detail = f"stanza {', '.join(stanzas)}; {len(labels)} backups" + (f", the newest {labels[-1]}" if labels else "")
    step = (
        f"pgbackrest --stanza={stanzas[0]} --type=time --target=TIME --pg1-path=EMPTY_FOLDER restore; "
        f"start a server on it on another port; {ON_ANOTHER}."
    )
    return Physical("a pgBackRest repository", folder, detail, _least(times), _most(times), step)


def _wal_g(folder: Path, names: set[str]) -> Physical | None:
    base = next((name for name in sorted(names) if re.fullmatch(r"basebackups_\d{3}", name)), None)
    if base is None:
        return None
    sentinels = _glob(folder, f"{base}/*_backup_stop_sentinel.json")
    times = [moment for path in sentinels if (moment := _of_sentinel(path)) is not None]
    step = f"wal-g backup-fetch EMPTY_FOLDER LATEST; start a server on it on another port; {ON_ANOTHER}."
    return Physical("a WAL-G store", folder, f"{len(sentinels)} backups", _least(times), _most(times), step)


def _barman(folder: Path, names: set[str]) -> Physical | None:
    if not {"base", "wals"} <= names:
        return None
    infos = sorted(_glob(folder, "base/*/backup.info"))
    times = [moment for path in infos if (moment := _in_name(path.parent.name)) is not None]
    newest = f", the newest {infos[-1].parent.name}" if infos else ""
    step = (
        f"barman recover --target-time TIME {folder.name} latest EMPTY_FOLDER; "
        f"start a server on it on another port; {ON_ANOTHER}."
    )
    return Physical(
        "a Barman server", folder, f"{len(infos)} backups{newest}", _least(times), _most(times), step
    )  # fmt: skip


def _archived_wal(folder: Path, entries: Iterable[Path]) -> Physical | None:
    segments = [(match, entry) for entry in entries if (match := _WAL.match(entry.name)) is not None]
    if not segments:
        return None
    timelines = sorted({int(match[1], 16) for match, _ in segments})
    times = [moment for _, entry in segments if (moment := _time(entry)) is not None]
    gaps = _gaps([(int(m[1], 16), int(m[2], 16) * SEGMENTS + int(m[3], 16)) for m, _ in segments])
    detail = f"{len(segments)} segments, timeline {', '.join(map(str, timelines))}"
    detail += f"; {counted(gaps, 'gap')}; WAL after a gap cannot be replayed" if gaps else ", without a gap"
    step = (
        "WAL alone cannot be restored: restore an older physical backup with a restore_command that copies from here "
        f"and a recovery_target_time in this range; {ON_ANOTHER}."
    )
    return Physical("archived WAL", folder, detail, _least(times), _most(times), step)


def _gaps(numbers: Iterable[tuple[int, int]]) -> int:
    ordered = sorted(set(numbers))
    return sum(one[0] == other[0] and other[1] != one[1] + 1 for one, other in pairwise(ordered))


def _glob(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""


def _time(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _started(label: Path) -> datetime | None:
    found = _IN_LABEL.search(_text(label))
    if found is not None and found[2] in ("UTC", "GMT"):
        with suppress(ValueError):
            return datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    return _time(label)


def _in_name(name: str) -> datetime | None:
    """Read the time in a backup's name. It is in the local time of its server, taken as that of this machine."""
    found = _IN_NAME.search(name)
    try:
        return datetime.strptime("".join(found.groups()), "%Y%m%d%H%M%S").astimezone(UTC) if found else None
    except ValueError:
        return None


def _of_sentinel(path: Path) -> datetime | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        text = json.loads(path.read_text(encoding="utf-8"))["FinishTime"]
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return _time(path)


def _least(times: Sequence[datetime]) -> datetime | None:
    return min(times, default=None)


def _most(times: Iterator[datetime] | Sequence[datetime]) -> datetime | None:
    return max(times, default=None)
