"""The application's health check: HTTP requests until one succeeds or the deadline has passed."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lastgood.application import Application
from lastgood.application.results import HealthResult
from lastgood.config.tables import Health
from lastgood.errors import Interrupted
from lastgood.text.redact import Scrubber

if TYPE_CHECKING:
    import httpx

BODY_CHARACTERS = 500
MOST_BYTES = 1 << 20
BETWEEN_SECONDS = 1.0


def check_health(
    application: Application,
    cancelled: Callable[[], bool] = lambda: False,
    on_failure: Callable[[int, HealthResult], None] = lambda tries, last: None,
) -> HealthResult:
    """Send requests until the response is the expected one, or the deadline has passed; ``on_failure`` is called with
    every other response. A redirect is a response like any other, and not followed. Raises Interrupted."""
    import httpx  # loaded only when a check is configured

    health = application.health
    assert health is not None, "there is no [health]"
    headers = {name: os.environ.get(variable, "") for name, variable in health.headers.items()}
    secrets = Scrubber()
    secrets.learn(value for value in headers.values() if value)
    secrets.learn(value.split(" ", 1)[1] for value in headers.values() if " " in value)  # "Bearer …"

    def scrub(text: str) -> str:
        return application.scrub(secrets(text))

    def client() -> httpx.Client:
        # Tokens may hold any letter; httpx alone would want ASCII.
        return httpx.Client(
            follow_redirects=False, headers=httpx.Headers(headers, encoding="utf-8"), timeout=health.time_limit
        )

    began, tries = time.monotonic(), 0
    try:
        requests = _Requests(client, health, cancelled)
    except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
        # The environment's proxies (HTTPS_PROXY, ALL_PROXY) and certificates (SSL_CERT_FILE): a retry cannot help.
        problem = scrub(f"cannot connect with the proxy or certificates set in the environment: {error}")
        return HealthResult(url=scrub(health.url), tries=0, seconds=0.0, status=None, body="", problem=problem)
    with requests:
        while True:
            tries += 1
            status, body, problem = requests.once()
            result = HealthResult(
                url=scrub(health.url),
                tries=tries,
                seconds=round(time.monotonic() - began, 3),
                status=status,
                body=scrub(body)[:BODY_CHARACTERS],
                problem=scrub(problem),
            )
            if not problem or time.monotonic() - began >= health.deadline:
                return result
            on_failure(tries, result)
            next_request = min(time.monotonic() + BETWEEN_SECONDS, began + health.deadline)
            while time.monotonic() < next_request:
                _check_cancelled(cancelled)
                time.sleep(0.05)  # nothing announces that an application is healthy


def _check_cancelled(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Interrupted("interrupted during the health check of the application")


HttpResponse = tuple[int | None, str, str]
"""The status and the beginning of the body of one response, and the reason why it fails the check."""


class _Requests:
    """Requests in a thread of their own: httpx limits the time of each piece of a response, and a response that arrives
    byte by byte would never end. A thread that exceeds the limit is abandoned, with its client."""

    def __init__(self, client: Callable[[], httpx.Client], health: Health, cancelled: Callable[[], bool]) -> None:
        self._new, self._client = client, client()
        self._health = health
        self._cancelled = cancelled

    def __enter__(self) -> _Requests:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def once(self) -> HttpResponse:
        """One response, or a timeout. Raises Interrupted."""
        responses: queue.SimpleQueue[HttpResponse] = queue.SimpleQueue()
        late = threading.Event()
        client, health = self._client, self._health

        def request() -> None:
            responses.put(_request(client, health))
            if late.is_set():
                client.close()

        thread = threading.Thread(target=request, name="lastgood-health", daemon=True)
        thread.start()
        over = time.monotonic() + health.time_limit
        try:
            while (remaining := over - time.monotonic()) > 0:
                _check_cancelled(self._cancelled)
                with suppress(queue.Empty):
                    return responses.get(timeout=min(0.1, remaining))
        finally:
            if responses.empty() and thread.is_alive():
                late.set()
                self._client = self._new()
        return None, "", f"no response within {health.time_limit:g} s"


def _request(client: httpx.Client, health: Health) -> HttpResponse:
    import httpx

    too_late = f"no response within {health.time_limit:g} s"
    content = b""
    try:
        with client.stream("GET", health.url) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    break
    except httpx.TimeoutException:
        return None, _text(content), too_late
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        return None, _text(content), f"request failed: {str(error) or type(error).__name__}"
    body = _text(content)
    if response.status_code != health.status:
        to = f" (a redirect to {response.headers['location']})" if "location" in response.headers else ""
        return response.status_code, body, f"status {response.status_code}{to}, expected {health.status}"
    return response.status_code, body, "" if health.body is None else _body_problem(body, health.body)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _body_problem(body: str, expected: Mapping[str, Any]) -> str:
    try:
        actual = json.loads(body)
    except (ValueError, RecursionError):
        return "response is not JSON"
    return body_difference(expected, actual)


def body_difference(expected: Any, actual: Any, path: str = "") -> str:
    """The first place where ``actual`` lacks or contradicts ``expected``, in words; empty when there is none. Of an
    object only the expected keys are compared, of a list every element, of anything else the value and its type."""
    where = f'"{path}" in the response' if path else "the response"
    if isinstance(expected, Mapping):
        if not isinstance(actual, dict):
            return f"{where} is not an object"
        for key, value in expected.items():
            name = f"{path}.{key}" if path else str(key)
            if key not in actual:
                return f'response has no "{name}"'
            if problem := body_difference(value, actual[key], name):
                return problem
        return ""
    if isinstance(expected, list | tuple):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return f"{where} is {_shown(actual)}, expected {_shown(expected)}"
        pairs = enumerate(zip(expected, actual, strict=True))
        return next((problem for n, (e, a) in pairs if (problem := body_difference(e, a, f"{path}[{n}]"))), "")
    # In Python True equals 1.
    if isinstance(expected, bool) != isinstance(actual, bool) or expected != actual:
        return f"{where} is {_shown(actual)}, expected {_shown(expected)}"
    return ""


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
