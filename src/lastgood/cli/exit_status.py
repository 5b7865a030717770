"""What each exit status means: the help of every command and the reference are made from this table."""

from __future__ import annotations

from lastgood import errors

MEANINGS: dict[int, str] = {
    0: "done",
    errors.LastgoodError.exit_status: "a defect in lastgood; the report says in what state the database is",
    errors.UsageError.exit_status: "wrong usage or configuration",
    errors.Refused.exit_status: "refused before anything changed: a check failed, or not confirmed",
    errors.BadPoint.exit_status: "the restore point is missing, incomplete, corrupt or unsafe",
    errors.Failed.exit_status: "failed; the live database is as it was, and open",
    errors.ChecksFailedAfterSwap.exit_status: "a swap or a deployment failed its checks, and was taken back",
    errors.Stopped.exit_status: "stopped in between: `lastgood status` shows how to continue",
    errors.Interrupted.exit_status: "interrupted by the user, walked back",
}
ALWAYS = (0, 1, 2, 130)


def section(statuses: tuple[int, ...]) -> str:
    """The EXIT STATUS section of a command that ends with ``statuses`` besides those that any command has."""
    lines = [f"  {status:>3}  {MEANINGS[status]}" for status in sorted({*ALWAYS, *statuses})]
    return "\n".join(["\b", "EXIT STATUS", *lines])
