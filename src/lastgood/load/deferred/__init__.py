"""Deferred work: the completion of a database that was reopened as soon as it was usable.

``remainder`` is the list of this work, which is stored in that database; ``work`` executes the list.
"""
