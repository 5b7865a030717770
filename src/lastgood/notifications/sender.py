"""The program that sends notifications for lastgood: it reads lines, each a JSON object, and answers in lines.

``{"targets": {name: url}, "limit": seconds}`` comes first and is answered when Apprise is loaded, with the faults of
the addresses. ``{"message": …}`` is sent. ``{"will": message or null}`` is the message to send if the input ends
without ``{"over": seconds}``: then lastgood was killed. Every message to every target is answered with a line, at the
latest at its time limit, even if the delivery hangs. The program always exits by itself.

It runs in a session of its own, where Ctrl+C does not reach it, and imports nothing of lastgood, to start fast: a run
may be short. Addresses come through a pipe, never as arguments; no answer holds one."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from typing import Any
from urllib.parse import unquote, urlsplit

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Parts of an address of at least this length may be tokens; shorter ones are ports, "hook", "json".
SHORTEST = 5
UNKNOWN = "Apprise does not support this kind of address"


class Deliveries:
    """Messages being sent: to each target one after the other, in their order; to different targets in parallel."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._late = f"the message was not accepted within {limit:g} s"
        self._targets: dict[str, Any] = {}
        self._secrets: set[str] = set()
        self._last: dict[str, threading.Event] = {}
        self._open: dict[tuple[int, str], float] = {}
        self._titles: dict[tuple[int, str], str] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._numbers = 0

    def load(self, targets: dict[str, str]) -> dict[str, str]:
        """Load the targets: the faults of their addresses, by name."""
        import apprise  # a third of a second

        asset = apprise.AppriseAsset(service_timeout=self._limit)
        asset.app_id, asset.app_desc = "lastgood", "lastgood"
        asset.image_url_mask = asset.image_url_logo = ""  # pictures that the reader would fetch from elsewhere
        problems = {}
        for name, url in targets.items():
            self._secrets |= secrets_of(url)
            service = apprise.Apprise(asset=asset)
            try:
                accepted = service.add(url)
            except Exception:  # from any of a hundred plugins: one address must not block the others
                accepted = False
            if accepted:
                self._targets[name] = service
            else:
                problems[name] = UNKNOWN
        return problems

    def send(self, message: dict[str, Any]) -> None:
        """Begin to send the message to each of ``message["to"]``."""
        self._numbers += 1
        for name in message["to"]:
            before, done = self._last.get(name), threading.Event()
            self._last[name] = done
            key = (self._numbers, name)
            began = time.monotonic()
            with self._lock:
                self._open[key] = began
                self._titles[key] = message["title"]
            threading.Thread(target=self._deliver, args=(key, message, before, done), daemon=True).start()

    def _deliver(
        self, key: tuple[int, str], message: dict[str, Any], before: threading.Event | None, done: threading.Event
    ) -> None:
        # The previous message may hang: wait for it no longer than half the limit.
        if before is not None:
            before.wait(self._limit / 2)
        try:
            problem = self._notify(key[1], message)
        except Exception as error:
            problem = f"the message could not be sent ({type(error).__name__})"
        done.set()
        self._answer(key, problem)

    def _notify(self, name: str, message: dict[str, Any]) -> str:
        """The reason of a failure; empty when the message was accepted."""
        service = self._targets.get(name)
        if service is None:
            return UNKNOWN
        form = max(_form(each) for each in service)
        result = service.notify(
            title=message["title"],
            body=message[form],
            body_format=form,
            notify_type=message["severity"],
            log_level=logging.WARNING,
        )
        if result:
            return ""
        if result.status.name == "TIMEOUT":
            return self._late
        logged = [each.message for each in result.logs() if each.level in ("WARNING", "ERROR", "CRITICAL")]
        return self._scrubbed(logged[-1].rstrip(".") if logged else "the message was rejected without a reason")

    def _answer(self, key: tuple[int, str], problem: str) -> None:
        with self._lock:
            began = self._open.pop(key, None)
            if began is None:
                return  # already answered, at its time limit
            seconds = time.monotonic() - began
            write({"target": key[1], "title": self._titles[key], "seconds": round(seconds, 3), "problem": problem})
            self._changed.notify_all()

    def expire(self) -> None:
        """Answer for all messages that exceeded the time limit."""
        now = time.monotonic()
        with self._lock:
            late = [key for key, began in self._open.items() if now - began >= self._limit]
        for key in late:
            self._answer(key, self._late)

    def wait(self, seconds: float) -> None:
        """Wait until all messages are answered, or for ``seconds``; then answer for the rest."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.expire()
            with self._lock:
                if not self._open:
                    return
                self._changed.wait(min(0.1, max(0.0, deadline - time.monotonic())))
        with self._lock:
            keys = list(self._open)
        for key in keys:
            self._answer(key, self._late)

    def _scrubbed(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def _form(plugin: Any) -> str:
    """The form of the message for a service, ``text``, ``markdown`` or ``html``: the one that its address requests
    (``?format=``), or its preferred one. Slack has its own Markdown, which would show escapes: it gets plain text."""
    first, if_text = plugin.resolve_format().value, plugin.resolve_format("text").value
    return "text" if first == "markdown" and if_text == "text" else str(first)


def secrets_of(url: str) -> set[str]:
    """The address, and those of its parts that may be tokens; its host is no secret."""
    try:
        parts = urlsplit(url)
        parts_found = {parts.username or "", parts.password or ""}
    except ValueError:
        return {url}
    parts_found |= set(parts.path.split("/"))
    parts_found |= {pair.partition("=")[2] for pair in parts.query.split("&")}
    if parts.scheme not in ("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "http", "https"):
        parts_found.add((parts.hostname or "").lower())
        parts_found.add(parts.netloc.rpartition("@")[2].partition(":")[0])  # this part is often a token
    every = {form for each in parts_found for form in (each, unquote(each))}
    return {url, *(each for each in every if len(each) >= SHORTEST)}


def write(answer: dict[str, Any]) -> None:
    """Write one line; the reader may have ended."""
    try:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def main() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # A traceback of a library may quote an address.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    will: dict[str, Any] | None = None
    deliveries: Deliveries | None = None
    limit, patience = 10.0, None
    for line in sys.stdin:
        try:
            order = json.loads(line)
        except ValueError:
            break  # lastgood was killed while it wrote
        if "targets" in order:
            limit = order["limit"]
            deliveries = Deliveries(limit)
            write({"problems": deliveries.load(order["targets"])})
        elif "message" in order and deliveries is not None:
            deliveries.send(order["message"])
        elif "will" in order:
            will = order["will"]
        elif "over" in order:
            patience = order["over"]
            break
    if deliveries is not None:
        if patience is None and will is not None:
            deliveries.send(will)
        deliveries.wait(limit if patience is None else patience)
    write({"over": True})
    # Threads that hang in a library, or in a name server, are left where they are.
    os._exit(0)


if __name__ == "__main__":
    main()
