"""The site is built without a warning, needs no network to be built or read, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lastgood import __version__
from lastgood.checklist import ITEMS
from tests.docs.page import ROOT

# What a browser fetches by itself; a link that a reader may follow is something else.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|embed)\b[^>]*\bsrc=\"?(https?:)?//|<link\b[^>]*\bhref=\"?(https?:)?//"
)
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={"PATH": "/nowhere", "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # With --quiet, --strict would let everything pass.
    output = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("INFO ")]
    assert (done.returncode, output) == (0, [])
    return folder


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    assert [page.name for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?https?:", styles) == []


def test_it_can_be_searched_in_a_folder(site: Path) -> None:
    """Browsers fetch no JSON from a folder, and run no workers from it."""
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = ")
    assert "lastgood rollback" in index
    assert 'src="assets/iframe-worker.js"' in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", OUTSIDE)
def test_links_of_pages_outside_the_site(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_the_page_about_the_checklist_has_every_item() -> None:
    page = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [item.name for item in ITEMS]


def test_the_picture_of_the_house_has_every_layer_in_its_order() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    picture = (ROOT / "docs" / "assets" / "house.svg").read_text(encoding="utf-8")
    heights = {name: int(y) for y, name in re.findall(r'y="(\d+)"[^>]*/><text[^>]*class="name">(\w+)<', picture)}
    drawn = [[heights[name] for name in layer.split(" | ")] for layer in layers]
    assert all(len(set(layer)) == 1 for layer in drawn)
    assert [layer[0] for layer in drawn] == sorted({layer[0] for layer in drawn})


def test_what_is_not_published_is_promised_on_no_page() -> None:
    """Only the page Install says what pip installs; the others refer to it."""
    pages = [path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.name != "install.md"]
    promised = re.compile(r"(?:pip|pipx|uv tool) install ['\"]?(?:lastgood|\.)")
    assert [path.name for path in pages if promised.search(path.read_text(encoding="utf-8"))] == []


def test_the_install_page_names_the_wheel_of_this_version() -> None:
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"lastgood-([\d.]+)-py3", text)) == {__version__}
