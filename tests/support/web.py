"""A tiny HTTP server in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Web:
    """``answer`` takes a path and gives the status, the body and headers.
    ``asked`` are the paths that were asked for, each with the value of the header Authorization; ``posted`` what was
    sent to which path."""

    def __init__(self, answer: Callable[[str], tuple[int, bytes, Mapping[str, str]]]) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.posted: list[tuple[str, bytes]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer()

            def do_POST(self) -> None:
                web.posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer()

            def answer(self) -> None:
                web.asked.append((self.path, self.headers.get("Authorization")))
                status, body, headers = answer(self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
