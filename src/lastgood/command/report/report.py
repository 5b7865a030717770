"""The record of past runs: their list, the report of one run, the post-mortem and the checklist after a run."""

from lastgood.command.report.afterwards import TITLES, answer
from lastgood.command.report.document import RunLine, RunRecord, Runs
from lastgood.command.report.inquiry import Inquiry
from lastgood.command.report.listing import runs
from lastgood.command.report.look import newest_incident, record_of

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
]
