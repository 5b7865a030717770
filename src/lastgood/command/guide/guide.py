"""The guide: the rollback procedure as plain commands, for an operator with only psql, pg_dump and pg_restore.

``subject_of`` reads a database and its newest restore point, ``executable`` returns the blocks of its guide, and
``run`` runs some of them as if pasted into a terminal. ``lastgood.command.guide.show`` writes the prose around the same
blocks.
"""

from lastgood.command.guide.blocks import HOOKS, IN_PLACE, ROLLBACK, UNDO, BlockResult, GuideBlock, blocks, run, select
from lastgood.command.guide.subject import GuideSubject, subject_of
from lastgood.command.guide.writing import body


def executable(subject: GuideSubject) -> list[GuideBlock]:
    """Return all blocks of the guide for this subject, in the order of its text."""
    return blocks(body(subject, {}))


__all__ = [
    "HOOKS",
    "IN_PLACE",
    "ROLLBACK",
    "UNDO",
    "BlockResult",
    "GuideBlock",
    "GuideSubject",
    "blocks",
    "body",
    "executable",
    "run",
    "select",
    "subject_of",
]
