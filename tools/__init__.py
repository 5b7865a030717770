"""Programs for the workshop that are not part of the package."""
