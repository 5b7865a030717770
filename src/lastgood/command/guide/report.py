"""The results of ``lastgood guide`` as data: the written guide, or whether a guide is out of date."""

from __future__ import annotations

from datetime import datetime

from lastgood.models import Document, Frozen


class GuideSection(Frozen):
    """A heading of the guide, with the blocks of commands below it."""

    title: str
    blocks: tuple[str, ...]


class GuideReport(Document):
    """A guide that was written. ``html`` and ``readme`` are null if not requested."""

    file: str
    html: str | None
    readme: str | None
    database: str
    point: str
    point_made_at: datetime
    made_at: datetime
    review: datetime
    sections: tuple[GuideSection, ...]


class GuideCheck(Document):
    """Whether a guide is up to date, and the reasons if it is not."""

    file: str
    current: bool
    reasons: tuple[str, ...]
