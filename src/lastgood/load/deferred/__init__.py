"""What is done when the application is back already: the rest of a database that was reopened as soon as it was usable.

``remainder`` is the list of it, which lives in that database; ``work`` goes through the list.
"""
