"""The record of what was done: the list of runs, the report of one, the post-mortem and the checklist after."""

from lastgood.procedure.record.afterwards import TITLES
from lastgood.procedure.record.answers import answer
from lastgood.procedure.record.document import RunLine, RunRecord, Runs
from lastgood.procedure.record.inquiry import Inquiry
from lastgood.procedure.record.listing import runs
from lastgood.procedure.record.look import newest_incident, record_of, to_do

__all__ = [
    "TITLES",
    "Inquiry",
    "RunLine",
    "RunRecord",
    "Runs",
    "answer",
    "newest_incident",
    "record_of",
    "runs",
    "to_do",
]
