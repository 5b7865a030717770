"""What the live database can be put back to: restore points in a folder, our own with a manifest, others without."""

from lastgood.points.choosing import choose
from lastgood.points.point import RestorePoint, source_of
from lastgood.points.store import listing
from lastgood.points.verdict import Verdict, checked, verify

__all__ = ["RestorePoint", "Verdict", "checked", "choose", "listing", "source_of", "verify"]
