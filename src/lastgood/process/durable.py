"""The one way to write a file that must survive a crash of the machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lastgood import fault


def sync_folder(folder: Path) -> None:
    """Make renames and new names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Make a file, or every file and folder below a folder, durable, after another program wrote it."""
    if path.is_dir():
        for child in sorted(path.iterdir()):
            sync_tree(child)
        sync_folder(path)
    else:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def private_folder(folder: Path) -> None:
    """Create a folder, and the missing ones above it, with mode 0700; one that exists keeps its mode. Raises
    OSError."""
    for each in (*reversed(folder.parents), folder):
        # "." always exists, also where its parent cannot be read.
        if not each.is_dir():
            try:
                each.mkdir(mode=0o700)
            except FileExistsError:
                if not each.is_dir():  # another process may have made it in between
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(each)) from None


def publish(temporary: Path, final: Path) -> None:
    """Give a complete file or folder its final name: first the content is made durable, then the name, then the folder.

    After a crash ``final`` is absent or complete, never partial. Raises OSError.
    """
    sync_tree(temporary)
    fault.point("durable.before_rename")
    temporary.rename(final)
    sync_folder(final.parent)


@contextmanager
def written_file(final: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A binary file that gets its name only when the block ends without an error; otherwise nothing is left behind.

    The temporary name is ``.<name>.partial`` in the same folder. Raises OSError.
    """
    temporary = final.with_name(f".{final.name}.partial")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_private(file: Path, content: bytes) -> None:
    """Replace a small private file (mode 0600) and create its folders. Raises OSError."""
    private_folder(file.parent)
    with written_file(file) as output:
        output.write(content)
