"""The reference matches the code, because it is generated from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import manual, reference

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_matches_the_code(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name]().rstrip() + "\n", "run: python -m tools.reference"


def test_the_manual_page_matches_the_code() -> None:
    assert manual.PAGE.read_text(encoding="utf-8") == manual.page(), "run: python -m tools.reference"


def test_there_is_no_other_page() -> None:
    assert {each.name for each in FOLDER.iterdir()} == set(reference.PAGES)


def test_pages_are_written(tmp_path: Path) -> None:
    reference.write(tmp_path / "new")
    assert {each.name for each in (tmp_path / "new").iterdir()} == set(reference.PAGES)
