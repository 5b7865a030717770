"""The survey of a database; a pooler in between is detected."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lastgood.command.init.survey import survey
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target


def _forward(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(change(data))
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _other_cancel_key(data: bytes) -> bytes:
    """As a pooler does: the BackendKeyData message (K, length, process, key) names a process of the pooler's own."""
    for length in (12, 40):  # protocol 3.0, and 3.2 with its longer keys
        head = b"K" + struct.pack("!i", length)
        place = data.find(head)
        if place >= 0:
            return data[: place + 5] + struct.pack("!i", 7) + data[place + 9 :]
    return data


@contextmanager
def pooler(server: EmbeddedServer, folder: Path) -> Iterator[str]:
    """Stands between a client and the server, on a Unix socket in ``folder``."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / ".s.PGSQL.5432"))
        listener.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    upstream = socket.socket(socket.AF_UNIX)
                    upstream.connect(str(server.folder / ".s.PGSQL.5432"))
                    pairs = [(client, upstream, bytes), (upstream, client, _other_cancel_key)]
                    threads = [threading.Thread(target=_forward, args=pair) for pair in pairs]
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join()
                    client.close()
                    upstream.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield str(folder)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.postgres(15, 16, 17, 18)
def test_a_pooler_in_between_is_noticed(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = server.target(new_database())
    assert survey(target).pooled is False
    with pooler(server, tmp_path_factory.mktemp("p")) as host:
        found = survey(Target({**target.keywords, "host": host}))
    assert found.pooled is True
    assert found.obstacles == (
        "This connection goes through a pooler. Connect to the server directly, or to the pooler's session port.",
    )
