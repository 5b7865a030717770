"""Restore points in a folder: our own with a manifest, others without."""

from lastgood.dump.files.file_set import files_of_set
from lastgood.points.choosing import (
    choose,
    collect_skipped,
    display_path,
    find,
    find_by_names,
    name_in,
    predates_migration,
)
from lastgood.points.nearby import NearbyFolder, all_points, nearby_folders, points_nearby
from lastgood.points.partial import MissingPart, OrphanRows, PartialPoint, check_restorable
from lastgood.points.point import RestorePoint, source_of
from lastgood.points.quick_check import QuickCheck, choose_quickly
from lastgood.points.store import list_points, point_at
from lastgood.points.verdict import PointVerdict, VerifiedPoint, read_whole, state_of, verify

__all__ = [
    "MissingPart",
    "NearbyFolder",
    "OrphanRows",
    "PartialPoint",
    "PointVerdict",
    "QuickCheck",
    "RestorePoint",
    "VerifiedPoint",
    "all_points",
    "check_restorable",
    "choose",
    "choose_quickly",
    "collect_skipped",
    "display_path",
    "files_of_set",
    "find",
    "find_by_names",
    "list_points",
    "name_in",
    "nearby_folders",
    "point_at",
    "points_nearby",
    "predates_migration",
    "read_whole",
    "source_of",
    "state_of",
    "verify",
]
