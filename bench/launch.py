"""Start one program, wait for it, and write its seconds, its peak memory in bytes, its CPU seconds and its status to a
file.

This is a separate process that imports almost nothing: the peak that the kernel reports for a child begins with the
memory of the process that it was forked from.
"""

import os
import subprocess
import sys
import time


def main() -> None:
    """``python -S launch.py RESULT PROGRAM ARGUMENT…``."""
    result, *arguments = sys.argv[1:]
    started = time.monotonic()
    process = subprocess.Popen(arguments)
    # wait4 reports on this child and those that it waited for: the sum of their time, the maximum of their memory.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    processor = usage.ru_utime + usage.ru_stime
    with open(result, "w") as file:  # noqa: PTH123 -- pathlib would take more memory than all of the rest
        file.write(f"{seconds} {usage.ru_maxrss * 1024} {processor} {process.returncode}")


if __name__ == "__main__":
    main()
