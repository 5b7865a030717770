"""The rate of errors that the application reported to Sentry, from Sentry's API."""

from __future__ import annotations

import os
import time
from urllib.parse import quote

from lastgood.config.tables import Sentry

TIME_LIMIT = 5.0
RESOLUTION = 10  # seconds; the finest that Sentry offers
# Sentry counts an event only some time after it was reported.
LEAST_SECONDS = 60.0


def rate(sentry: Sentry, seconds: float) -> float | None:
    """Errors per second in the last ``seconds`` (at least a minute), by the project's event counts; None where the
    token is not set. Raises httpx.HTTPError, or ValueError for a malformed response."""
    token = os.environ.get(sentry.token_variable)
    if not token:
        return None
    import httpx  # loaded only when Sentry is configured

    until = time.time()
    length = max(seconds, LEAST_SECONDS)
    response = httpx.get(
        f"{sentry.url.rstrip('/')}/api/0/projects/{quote(sentry.organization)}/{quote(sentry.project)}/stats/",
        params={
            "stat": "received",
            "resolution": f"{RESOLUTION}s",
            "since": str(int(until - length)),
            "until": str(int(until)),
        },
        headers={"Authorization": f"Bearer {token}"},
        timeout=TIME_LIMIT,
    )
    response.raise_for_status()
    try:
        return sum(float(count) for _, count in response.json()) / length
    except TypeError:
        raise ValueError("the response is not a list of counts") from None
