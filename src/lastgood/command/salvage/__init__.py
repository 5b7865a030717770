"""The command ``salvage``: rows written after the restore point, brought back."""
