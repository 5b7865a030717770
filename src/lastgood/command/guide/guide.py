"""The guide: the procedure of a rollback as plain commands, for somebody who has psql, pg_dump and pg_restore only.

``look`` finds out about a database and its newest restore point, ``executable`` gives the blocks of its guide, and
``run`` runs some of them as a person would who pastes them into a terminal. The same blocks stand in the text, around
which ``lastgood.command.guide.show`` writes the prose.
"""

from lastgood.command.guide.blocks import HOOKS, ROLLBACK, UNDO, Block, Ran, blocks, chosen, run
from lastgood.command.guide.subject import Subject, look
from lastgood.command.guide.writing import body


def executable(subject: Subject) -> list[Block]:
    """All blocks of the guide for this subject, in the order of its text."""
    return blocks(body(subject, {}))


__all__ = [
    "HOOKS",
    "ROLLBACK",
    "UNDO",
    "Block",
    "Ran",
    "Subject",
    "blocks",
    "body",
    "chosen",
    "executable",
    "look",
    "run",
]
