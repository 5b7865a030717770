"""The leash: starts a foreign program, and ends it with all that it has started when we are gone.

Whoever goes on with a run that was killed starts the application; a hook of the killed one that still stops it must not
be at work then. So a hook is a child of this program, which is told nothing and knows by the end of its input that the
hook is to end: we close it, or die. It lies in a session of its own, where what ends us does not reach it.

    python -I -S leash.py PROGRAM ARGUMENT…

It says ``started PID``, or ``failed ERRNO``, and then ``ended STATUS`` (-9 for one that signal 9 ended). What the
program prints goes where our stderr does. Nothing is imported that is not needed: it starts in 20 ms.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

PATIENCE = 5.0


def main() -> int:
    """The leash itself."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        # Handlers, since what is ignored here would be ignored by the program, too; what we came with is kept for it.
        if signal.getsignal(one) is not signal.SIG_IGN or one == signal.SIGCHLD:
            signal.signal(one, lambda number, frame: None)
    try:
        process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=2, stderr=2, start_new_session=True)
    except OSError as error:
        _say(f"failed {error.errno}")
        return 1
    _say(f"started {process.pid}")
    while process.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        elif not os.read(0, 4096):
            _end(process)
    _say(f"ended {process.returncode}")
    return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program that leads a process group, and all its children: politely, then at once."""
    _signal(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    # Its children may have outlived it; the group keeps its number as long as one of them is there.
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody may be there to hear it
        os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
