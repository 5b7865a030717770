"""Mail, which no webhook stands for: it gets HTML, and in it a name of a database does nothing."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading

from lastgood.config.tables import Recipient
from lastgood.notifications import Address, Messenger
from lastgood.screen import news


class Post(socketserver.ThreadingTCPServer):
    """A mail server that takes every message."""

    daemon_threads = True

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Session)


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        def say(line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        say("220 here")
        while line := self.rfile.readline():
            command = line[:4].upper().strip()
            if command == b"DATA":
                say("354 go on")
                content = b""
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    content += line.removeprefix(b".") if line.startswith(b"..") else line
                assert isinstance(self.server, Post)
                self.server.taken.append(content)
            say("221 bye" if command == b"QUIT" else "250 well")


def test_mail_gets_html_in_which_names_do_nothing() -> None:
    name = 'crm"<img src=x onerror=alert(1)>_1'
    story = news.Story(frozenset({"failure"}), "rollback failed", f'"{name}" was not touched.', next="lastgood status")
    message = news.message(story, "rollback", name, [("Run", "run_1")])
    with Post() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        port = server.server_address[1]
        url = f"mailto://127.0.0.1:{port}?from=lastgood@example.org&to=ann@example.org&mode=insecure"
        messenger = Messenger([Address(Recipient(name="ann", url_variable="X"), url)], 10.0)
        messenger.send(message)
        assert [each.problem for each in messenger.finish()] == [""]
        server.shutdown()
        thread.join()
    (taken,) = server.taken
    mail = email.message_from_bytes(taken, policy=email.policy.default)
    assert mail["To"] == "ann@example.org"
    assert mail["Subject"] == f"{name}: rollback failed"
    html, text = mail.get_body(("html",)), mail.get_body(("plain",))
    assert html is not None and text is not None
    assert "<p>&quot;crm&quot;&lt;img src=x onerror=alert(1)&gt;_1&quot; was not touched.</p>" in html.get_content()
    assert "<img" not in html.get_content()
    assert f'"{name}" was not touched.' in text.get_content()
