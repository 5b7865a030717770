"""Restore points in a folder: our own with a manifest, others without."""

from lastgood.dump.file_set import files_of_set
from lastgood.points.below import Elsewhere, all_points, elsewhere, outside
from lastgood.points.choosing import choose, collect_skipped, find, from_here, gather, may_lack, name_in
from lastgood.points.glance import Glance, glanced
from lastgood.points.partial import Lack, Orphans, Partial, check_restorable
from lastgood.points.point import RestorePoint, source_of
from lastgood.points.store import listing, point_at
from lastgood.points.verdict import PointVerdict, Whole, read_whole, state_of, verify

__all__ = [
    "Elsewhere",
    "Glance",
    "Lack",
    "Orphans",
    "Partial",
    "PointVerdict",
    "RestorePoint",
    "Whole",
    "all_points",
    "check_restorable",
    "choose",
    "collect_skipped",
    "elsewhere",
    "files_of_set",
    "find",
    "from_here",
    "gather",
    "glanced",
    "listing",
    "may_lack",
    "name_in",
    "outside",
    "point_at",
    "read_whole",
    "source_of",
    "state_of",
    "verify",
]
