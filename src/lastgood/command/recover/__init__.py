"""The command ``recover``: diagnose the emergency and roll back."""
