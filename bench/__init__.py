"""The speed of lastgood compared with psql and pg_restore, on the same data, in one run: ``python -m bench``.

``data`` makes data sets and their dumps; ``contestants`` restore them in turn, in a ``contest``; ``growth`` does so at
several sizes; ``costs`` measures the pieces, which ``simulate`` schedules on more cores. ``service`` measures rollback
and undo under readers, ``facts`` the reading of a dump. ``measure`` and ``memory`` watch a program, ``effort`` the
server. ``results`` keeps the measurements, ``goals`` evaluates them, ``report`` and ``plot`` show them.
"""
