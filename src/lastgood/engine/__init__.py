"""The restore engine: runs a dump's script in an empty database, on several sessions at once.

Definitions go in first, in their order. Then each worker takes the task with the most work behind it: rows of a table,
an index of one whose rows are in, a foreign key between two that have their indexes, and, where nothing else is to
do, a table's rows back out, to see that they are the dump's.
"""

from lastgood.engine.costs import Effort, Known
from lastgood.engine.crew import Connect, load
from lastgood.engine.loaded import Loaded
from lastgood.engine.options import Options, Reading
from lastgood.engine.schedule import forecast
from lastgood.engine.supply import supply_for

__all__ = ["Connect", "Effort", "Known", "Loaded", "Options", "Reading", "forecast", "load", "supply_for"]
