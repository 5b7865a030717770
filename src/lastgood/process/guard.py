"""The guard: starts a foreign program, and ends it with all its child processes when lastgood has ended.

The operator who continues a killed run starts the application; a hook of the killed run that still stops it must not
run then. So a hook is a child of this program, which gets no orders: the end of its input, closed by lastgood or by its
death, means that the hook must end. It runs in a session of its own, where signals to lastgood do not reach it.

    python -I -S guard.py PROGRAM ARGUMENT…

It reports ``started PID``, or ``failed ERRNO``, and then ``ended STATUS`` (-9 after signal 9). The program's output
goes to our stderr. It imports only necessary modules: it starts in 20 ms."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

PATIENCE = 5.0


def main() -> int:
    """Run the guard."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        # Handlers, since the program would inherit ignored signals; signals that were already ignored remain so for it.
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD:
            signal.signal(number, lambda number, frame: None)
    try:
        process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=2, stderr=2, start_new_session=True)
    except OSError as error:
        _report(f"failed {error.errno}")
        return 1
    _report(f"started {process.pid}")
    while process.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        elif not os.read(0, 4096):
            _end(process)
    _report(f"ended {process.returncode}")
    return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that leads a process group, and all its children: first by SIGTERM, then by SIGKILL."""
    _signal(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    # Its children may have outlived it; the group keeps its number as long as one of them exists.
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _report(line: str) -> None:
    with suppress(OSError):  # the reader may have ended
        os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
