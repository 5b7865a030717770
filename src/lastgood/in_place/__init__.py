"""Going back in place: the objects of schemas are exchanged inside one database that cannot be renamed.

In the order of a run: ``capabilities`` and ``survey`` (what can go back), ``definitions`` (those of the restore point,
under the names of staging schemas), ``build`` (the load and its proof), ``platform`` (keys and rows of tables that
stay), ``ties`` (what binds the schemas to the rest), ``exchange`` (the one transaction). ``marks``, ``names`` and
``kept`` identify the schemas from any machine.
"""
