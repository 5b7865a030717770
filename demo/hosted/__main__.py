"""``python -m demo.hosted``: on a stand-in for a hosted project, whose database cannot be renamed, a deployment fails,
its automatic way back is killed, and an operator on another machine goes back in place, undoes it and goes back again.

Ends with 0 only if every claim on the screen was checked and held. Needs no server, no network and no root; works as
root and without a terminal too. Leaves nothing behind.
"""

from __future__ import annotations

import sys

from demo.hosted import platform, story
from demo.performance import DURABLE, perform

if __name__ == "__main__":
    sys.exit(
        perform(
            "python -m demo.hosted",
            __doc__,
            "lastgood: a hosted project, whose database cannot be renamed, goes back in place",
            lambda: platform.started(18, DURABLE),
            story.run,
        )
    )
