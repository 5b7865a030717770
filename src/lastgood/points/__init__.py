"""What the live database can be put back to: restore points in a folder, our own with a manifest, others without."""

from lastgood.points.choosing import choose, find, gather
from lastgood.points.point import RestorePoint, source_of
from lastgood.points.store import listing
from lastgood.points.verdict import Verdict, Whole, lacking, read_whole, verify

__all__ = [
    "RestorePoint",
    "Verdict",
    "Whole",
    "choose",
    "find",
    "gather",
    "lacking",
    "listing",
    "read_whole",
    "source_of",
    "verify",
]
