"""``python -m demo``: a CRM is broken, rolled back and proved, and the rollback is undone, on a temporary server.

Ends with 0 only if every claim on the screen was checked and held. Needs no server, no network and no root; works as
root and without a terminal too. Leaves nothing behind.
"""

from __future__ import annotations

import sys

from demo import story
from demo.performance import DURABLE, perform
from lastgood.postgres.embedded import EmbeddedServer

if __name__ == "__main__":
    sys.exit(
        perform(
            "python -m demo",
            __doc__,
            "lastgood: a database is broken, rolled back, and the rollback is undone",
            lambda: EmbeddedServer(18, settings=DURABLE),
            story.run,
        )
    )
