"""How fast lastgood is beside psql and pg_restore, on the same data, in one run: ``python -m bench``.

``data`` makes data sets and their dumps; ``contestants`` restore them, in turn, in a ``contest``; ``growth`` does it at
several sizes; ``costs`` measures the pieces, which ``simulate`` schedules on more cores. ``service`` is about rollback
and undo under readers, ``facts`` about reading a dump. ``measure`` and ``memory`` watch a program, ``effort`` the
server. What was found is kept by ``results``, held against ``goals``, and shown by ``report`` and ``plot``.
"""
