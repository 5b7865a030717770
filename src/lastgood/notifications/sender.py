"""The program that tells people elsewhere, beside lastgood: it reads lines, each a JSON object, and answers in lines.

``{"targets": {name: url}, "limit": seconds}`` comes first and is answered when Apprise is loaded, with what is wrong
with the addresses. ``{"message": …}`` is sent. ``{"will": message or null}`` is what is to be sent if the input ends
without ``{"over": seconds}``: then lastgood was killed. Every message to every target is answered with a line, at the
latest when its time is over; nobody waits for one that hangs. It ends by itself, whatever hangs in it.

It runs in a session of its own, where Ctrl+C does not reach it, and imports nothing of lastgood: a second of starting
would be missed when a run is short. Addresses come through a pipe, never as arguments; no answer holds one.
"""

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
# Parts of an address that are as long may be tokens; shorter ones are ports, "hook", "json".
SHORTEST = 5
UNKNOWN = "Apprise knows no service of that kind of address"


class Deliveries:
    """Who has been told what. To each target one message after the other, in their order; targets at the same time."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._late = f"it did not take the message within {limit:g} s"
        self._targets: dict[str, Any] = {}
        self._secrets: set[str] = set()
        self._last: dict[str, threading.Event] = {}
        self._open: dict[tuple[int, str], float] = {}
        self._titles: dict[tuple[int, str], str] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._numbers = 0

    def load(self, targets: dict[str, str]) -> dict[str, str]:
        """Makes the targets; what is wrong with them, by name."""
        import apprise  # a third of a second

        asset = apprise.AppriseAsset(service_timeout=self._limit)
        asset.app_id, asset.app_desc = "lastgood", "lastgood"
        asset.image_url_mask = asset.image_url_logo = ""  # pictures that the reader would fetch from elsewhere
        problems = {}
        for name, url in targets.items():
            self._secrets |= secrets_of(url)
            made = apprise.Apprise(asset=asset)
            try:
                good = made.add(url)
            except Exception:  # of any of a hundred plugins: an address must not stop the others
                good = False
            if good:
                self._targets[name] = made
            else:
                problems[name] = UNKNOWN
        return problems

    def send(self, message: dict[str, Any]) -> None:
        """Begins to tell each of ``message["to"]``."""
        self._numbers += 1
        for name in message["to"]:
            before, now = self._last.get(name), threading.Event()
            self._last[name] = now
            key = (self._numbers, name)
            began = time.monotonic()
            with self._lock:
                self._open[key] = began
                self._titles[key] = message["title"]
            threading.Thread(target=self._deliver, args=(key, message, before, now), daemon=True).start()

    def _deliver(
        self, key: tuple[int, str], message: dict[str, Any], before: threading.Event | None, now: threading.Event
    ) -> None:
        # The one before may hang; then this one has waited long enough.
        if before is not None:
            before.wait(self._limit / 2)
        try:
            problem = self._tell(key[1], message)
        except Exception as error:
            problem = f"it could not be sent ({type(error).__name__})"
        now.set()
        self._answer(key, problem)

    def _tell(self, name: str, message: dict[str, Any]) -> str:
        """What went wrong; empty when it was accepted."""
        made = self._targets.get(name)
        if made is None:
            return UNKNOWN
        form = max(_form(each) for each in made)
        result = made.notify(
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
        said = [each.message for each in result.logs() if each.level in ("WARNING", "ERROR", "CRITICAL")]
        return self._scrubbed(said[-1].rstrip(".") if said else "it was not accepted, without a word")

    def _answer(self, key: tuple[int, str], problem: str) -> None:
        with self._lock:
            began = self._open.pop(key, None)
            if began is None:
                return  # its time was over
            seconds = time.monotonic() - began
            say({"target": key[1], "title": self._titles[key], "seconds": round(seconds, 3), "problem": problem})
            self._changed.notify_all()

    def look_at_the_clock(self) -> None:
        """Answers for those whose time is over."""
        now = time.monotonic()
        with self._lock:
            late = [key for key, began in self._open.items() if now - began >= self._limit]
        for key in late:
            self._answer(key, self._late)

    def wait(self, seconds: float) -> None:
        """Until all are told, or the time is over; then it is over for every one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look_at_the_clock()
            with self._lock:
                if not self._open:
                    return
                self._changed.wait(min(0.1, max(0.0, deadline - time.monotonic())))
        with self._lock:
            left = list(self._open)
        for key in left:
            self._answer(key, self._late)

    def _scrubbed(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def _form(plugin: Any) -> str:
    """Which of ``text``, ``markdown`` and ``html`` a service is to get: what its address asks for (``?format=``), or
    what it takes first. Slack takes Markdown of its own kind, in which escapes would be seen: plain text, there."""
    first, if_text = plugin.resolve_format().value, plugin.resolve_format("text").value
    return "text" if first == "markdown" and if_text == "text" else str(first)


def secrets_of(url: str) -> set[str]:
    """The address, and those of its parts that may be tokens; its host may be named."""
    try:
        parts = urlsplit(url)
        found = {parts.username or "", parts.password or ""}
    except ValueError:
        return {url}
    found |= set(parts.path.split("/"))
    found |= {pair.partition("=")[2] for pair in parts.query.split("&")}
    if parts.scheme not in ("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "http", "https"):
        found.add((parts.hostname or "").lower())
        found.add(parts.netloc.rpartition("@")[2].partition(":")[0])  # what stands there is a token as often as not
    every = {form for each in found for form in (each, unquote(each))}
    return {url, *(each for each in every if len(each) >= SHORTEST)}


def say(answer: dict[str, Any]) -> None:
    """One line; nobody may be there any more to read it."""
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
            say({"problems": deliveries.load(order["targets"])})
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
    say({"over": True})
    # Threads that hang in a library, or in a name server, are left where they are.
    os._exit(0)


if __name__ == "__main__":
    main()
