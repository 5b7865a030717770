"""The key of this process for signatures of manifests. Apart from ``points.signature``, because commands that read no
restore points should not load it."""

from __future__ import annotations

from pathlib import Path


class Signing:
    """The settings of this process: ``key_file``, and the reason why unsigned restore points are ``trusted``."""

    key_file: Path | None = None
    trusted: str = ""
