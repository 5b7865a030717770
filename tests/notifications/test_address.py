"""The sources of addresses, and the errors for missing ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lastgood.config.tables import Recipient
from lastgood.notifications import NoAddress, address_of

URL = "json://hooks.example.org/T0KEN"


def refused(target: Recipient, environment: dict[str, str] | None = None) -> tuple[str, str]:
    with pytest.raises(NoAddress) as caught:
        address_of(target, environment or {})
    return str(caught.value), caught.value.hint


def test_a_variable_holds_it_and_nothing_shows_it() -> None:
    target = Recipient(name="team", url_variable="TEAM_URL")
    address = address_of(target, {"TEAM_URL": f"  {URL}\n"})
    assert address.url == URL
    assert "T0KEN" not in repr(address)
    assert refused(target, {"TEAM_URL": " "}) == (
        'variable "TEAM_URL" is not set',
        "Set TEAM_URL to the address; https://appriseit.com/services/ shows the forms.",
    )
    assert refused(target, {"TEAM_URL": f"{URL} {URL}"}) == (
        "the address has more than one line, or contains spaces",
        "Give one address per target; write a space in it as %20.",
    )


def test_the_address_may_be_in_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "team.url"
    target = Recipient(name="team", url_file=file)
    hint = "Put the address there, in one line that only you may read (chmod 600)."
    assert refused(target) == (f'cannot read "{file}": no such file or directory', hint)
    file.write_text(f"# the channel of the team\n\n{URL}\n")
    file.chmod(0o640)
    assert refused(target) == (f'other users may read "{file}", and addresses hold tokens', f"Run: chmod 600 {file}")
    file.chmod(0o600)
    assert address_of(target).url == URL
    file.write_text("# nothing yet\n")
    assert refused(target) == (f'"{file}" is empty', "Put the address there, in one line.")
    file.write_text(f"{URL}\n{URL}\n")
    assert refused(target)[0] == "the address has more than one line, or contains spaces"


def test_a_pipe_or_a_folder_does_not_hold_us_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, tmp_path):
        assert refused(Recipient(name="team", url_file=path))[0] == f'"{path}" is not a file'


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "team.url"
    file.write_text(URL)
    file.chmod(0o600)
    os.chown(file, 65534, 65534)
    assert refused(Recipient(name="team", url_file=file)) == (
        f'"{file}" belongs to another user',
        f"Check its content, then run: sudo chown $(id -un) {file}",
    )
