"""The plan of a rollback, and the runs that are unfinished.

`lastgood status` asks ``unfinished`` alone: the classes of plans are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lastgood.plan.plan import (
        Choice as Choice,
    )
    from lastgood.plan.plan import (
        CodeRun as CodeRun,
    )
    from lastgood.plan.plan import (
        Fence as Fence,
    )
    from lastgood.plan.plan import (
        Finding as Finding,
    )
    from lastgood.plan.plan import (
        Plan as Plan,
    )
    from lastgood.plan.plan import (
        PlannedPause as PlannedPause,
    )
    from lastgood.plan.plan import (
        PlannedPoint as PlannedPoint,
    )
    from lastgood.plan.plan import (
        PlannedStep as PlannedStep,
    )
    from lastgood.plan.plan import (
        Prepared as Prepared,
    )
    from lastgood.plan.plan import (
        ReopenWhen as ReopenWhen,
    )
    from lastgood.plan.plan import (
        Request as Request,
    )
    from lastgood.plan.plan import (
        TableLoss as TableLoss,
    )


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(import_module("lastgood.plan.plan"), name)
