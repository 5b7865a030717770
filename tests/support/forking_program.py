"""Loads lastgood, and forks a process for each order that comes: see forked_cli.py.

    python forking_program.py DESCRIPTOR

An order is a message of JSON with the descriptors of its stdin, stdout and stderr; before them one to answer on: the
number of the process at once, its exit status when it ends (-9 for one that signal 9 ended).
"""

from __future__ import annotations

import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

import lastgood.__main__

LARGEST = 1 << 18


def main() -> None:
    """Run until no orders can arrive any more."""
    # All of it: that is what this program is for. Commands import what they do only when they run.
    for module in pkgutil.walk_packages(lastgood.__path__, "lastgood."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in the terminal of the tests is for them
    orders = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, LARGEST, 4)
        if not message:
            return
        if os.fork() == 0:
            _stand_by(json.loads(message), orders, descriptors)
        for each in descriptors:
            os.close(each)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _stand_by(order: dict[str, Any], orders: socket.socket, descriptors: list[int]) -> NoReturn:
    """A process that starts another one and reports its status."""
    orders.close()
    answers, *files = descriptors
    child = os.fork()
    if child == 0:
        os.close(answers)
        _be(order, files)
    for each in files:
        os.close(each)
    os.write(answers, b"%d\n" % child)
    _, status = os.waitpid(child, 0)
    os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _be(order: dict[str, Any], files: list[int]) -> NoReturn:
    """What ``python -m lastgood`` is when it has loaded everything."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lastgood.__main__._interrupted)  # the first thing that the program does
    if order["session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, max(files) + 1)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.argv = ["lastgood", *order["arguments"]]
    # As Python opens them: lines at a terminal and on stderr, blocks elsewhere.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = _writing(1, by_line=os.isatty(1))
    sys.stderr = _writing(2, by_line=True)
    # Out through main: what Python does when a program ends is done, too.
    sys.exit(lastgood.__main__.main())


def _writing(number: int, *, by_line: bool) -> io.TextIOWrapper:
    file = open(number, "wb", buffering=-1, closefd=False)  # noqa: SIM115 - for as long as the process lives
    return io.TextIOWrapper(file, encoding="utf-8", line_buffering=by_line)


if __name__ == "__main__":
    main()
