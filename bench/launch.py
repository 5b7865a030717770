"""Starts one program, waits, and writes its seconds, its peak memory in bytes, its processor seconds and its status to
a file.

A process of its own, and one that imports next to nothing: the peak that the kernel reports of a child begins with the
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
    # wait4 tells of this child and those that it waited for: the sum of their time, the greatest of their memory.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    processor = usage.ru_utime + usage.ru_stime
    with open(result, "w") as file:  # noqa: PTH123 -- pathlib would be more memory than all of the rest
        file.write(f"{seconds} {usage.ru_maxrss * 1024} {processor} {process.returncode}")


if __name__ == "__main__":
    main()
