"""The configuration of one call: options, and the tables of ``lastgood.toml``.

Here are the options, which help and completion need; ``settings`` and ``tables`` are imported
by the modules that use them.
"""

from lastgood.config.options import FILE_NAME, LIBPQ, NOTHING_READ, OPTIONS, Option, Value, option

__all__ = ["FILE_NAME", "LIBPQ", "NOTHING_READ", "OPTIONS", "Option", "Value", "option"]
