"""The meaning of an error, a log or a run of lastgood, and the next commands."""

from lastgood.command.explain.explained import ErrorKind, Explained, explain, explain_text
from lastgood.command.explain.log import is_binary
from lastgood.command.explain.run import RunStory, explain_run, newest

__all__ = ["ErrorKind", "Explained", "RunStory", "explain", "explain_run", "explain_text", "is_binary", "newest"]
