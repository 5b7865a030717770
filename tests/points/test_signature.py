"""Signed restore points: what was replaced is refused by name, unless the operator trusts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.support import forked_cli


@dataclass(frozen=True)
class Place:
    """A database with a signed restore point, and one in another store that was signed with another key."""

    server: EmbeddedServer
    live: str
    store: Path
    key: Path

    def run(
        self, *arguments: str, key: Path | None = None, store: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        common = ("--db", self.server.url(self.live), "--store", str(store or self.store), "--no-color")
        state = ("--state", str(self.store / "state"), "--key-file", str(key or self.key))
        return forked_cli.run(*common, *state, *arguments)

    def backup(self, *, key: Path | None = None, store: Path | None = None) -> Path:
        done = self.run("backup", key=key, store=store)
        assert done.returncode == 0, done.stderr
        (found,) = (store or self.store).glob("*.sql")
        return found


def new_key(path: Path) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(32).hex().encode() + b"\n")
    return path


def manifest(point: Path) -> Path:
    return point.with_name(point.name + ".lastgood.json")


@pytest.fixture
def place(server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path) -> Place:
    live = new_database("app")
    with server.target(live).connect() as connection:
        connection.execute("CREATE TABLE public.t AS SELECT 1 AS i")
    return Place(server, live, store, new_key(tmp_path / "our.key"))


def test_a_signed_point_is_used_as_any_other(place: Place) -> None:
    point = place.backup()
    assert json.loads(manifest(point).read_text())["signature"].startswith("hmac-sha256:")
    done = place.run("points", "verify", point.name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("replaced", ["dump", "manifest", "both"])
def test_what_was_replaced_is_refused(place: Place, tmp_path: Path, replaced: str) -> None:
    point = place.backup()
    with place.server.target(place.live).connect() as connection:
        connection.execute("UPDATE public.t SET i = 2")
    other = place.backup(key=new_key(tmp_path / "their.key"), store=tmp_path / "theirs")
    before = manifest(point).stat().st_mtime_ns
    if replaced in ("dump", "both"):
        shutil.copy(other, point)
    if replaced in ("manifest", "both"):
        shutil.copy(manifest(other), manifest(point))
    for each in (point, manifest(point)):
        os.utime(each, ns=(before, before))
    done = place.run("restore", point.name, "--into", f"{place.live}_new")
    assert done.returncode == 4
    why = (
        "it differs from its manifest: content of public.t: "
        if replaced == "dump"
        else f'its manifest was not signed with the key in "{place.key}", or was changed since'
    )
    assert f'cannot use "{point}": {why}' in done.stderr
    with place.server.target("postgres").connect() as connection:
        names = connection.execute("SELECT FROM pg_database WHERE datname = %s", [f"{place.live}_new"])
        assert names.fetchone() is None


def test_a_point_without_a_signature_is_refused_or_trusted(place: Place) -> None:
    point = place.backup()
    manifest(point).unlink()
    refused = place.run("restore", point.name, "--into", f"{place.live}_new")
    why = "it has no manifest that could be signed"
    assert refused.returncode == 4
    assert f'cannot use "{point}": {why}' in refused.stderr
    assert '--trust-unsigned "REASON"' in " ".join(refused.stderr.split())
    readable = place.run("restore", point.name, "--into", f"{place.live}_new", "--skip-damaged")
    assert readable.returncode == 4
    assert f'cannot use "{point}": {why}' in readable.stderr
    trusted = place.run("restore", point.name, "--into", f"{place.live}_new", "--trust-unsigned", "made before the key")
    assert trusted.returncode == 0, trusted.stderr
    assert f"{point.name}: {why}; trusted: made before the key" in " ".join(trusted.stderr.split())


def test_a_changed_manifest_is_refused(place: Place) -> None:
    point = place.backup()
    content = json.loads(manifest(point).read_text())
    manifest(point).write_text(json.dumps({**content, "label": "another"}))
    done = place.run("points", "verify", point.name)
    assert f'its manifest was not signed with the key in "{place.key}", or was changed since' in " ".join(
        (done.stdout + done.stderr).split()
    )


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (None, 0o600, "no such file or directory"),
        ("x" * 31, 0o600, "it has fewer than 32 bytes"),
        ("x" * 32, 0o640, "other users can read it"),
    ],
)
def test_an_unusable_key_makes_no_backup(place: Place, tmp_path: Path, text: str | None, mode: int, why: str) -> None:
    key = tmp_path / "wrong.key"
    if text is not None:
        key.write_text(text)
        key.chmod(mode)
    done = place.run("backup", key=key)
    assert done.returncode == 3
    assert why in done.stderr
    assert f'the key file "{key}"' in done.stderr
    assert not list(place.store.glob("*.sql"))
