"""Every way in which the tests' server can fail: replies to script, whatever is asked."""

import email.utils
import time
from collections.abc import Mapping
from typing import Any

from tests.openrouter_server import (
    COMMENT,
    Handler,
    Json,
    Reply,
    breaks_off,
    chunk,
    completion,
    event,
    fails,
    resets,
    sends,
    stalls,
    streams,
)

ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    500: "server",
    502: "provider_unavailable",
    503: "provider_overloaded",
    524: "timeout",
    529: "provider_overloaded",
}
"""Every status of the contract that is a failure, and the `error_type` that goes with it."""


def unavailable(status: int, code: str, message: str = "", **availability: Any) -> Reply:
    """An error of the newer shape, which has no `code` beside the message; more about the availability by name."""
    error = {"message": message, "error_type": "not_found", "http_status": status}
    return sends({"error": {**error, "availability": {"code": code, "retryable": False, **availability}}}, status)


def limits(seconds: float | None = None, *, as_date: bool = False, platform: bool = True) -> Reply:
    """A 429, with the time to wait when it is given; the platform's own limit tells its figures, a provider's does not.

    A date counts whole seconds, so the wait it tells is up to a second shorter.
    """

    def reply(handler: Handler) -> None:
        headers = {}
        if platform:
            headers = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1768435200000"}
        if seconds is not None:
            date = email.utils.formatdate(time.time() + seconds, usegmt=True)
            headers["Retry-After"] = date if as_date else str(seconds)
        metadata = {"error_type": ERROR_TYPES[429]}
        fails(429, "Rate limit exceeded", headers=headers, metadata=metadata)(handler)

    return reply


def error_chunk(code: object = 502, message: str = "lost", **metadata: Any) -> Json:
    """The chunk that ends a stream in failure; `metadata` has an error_type unless it is given."""
    metadata = {"error_type": "provider_unavailable", **metadata}
    return {**chunk("", "error"), "error": {"code": code, "message": message, "metadata": metadata}}


def _broken_completion() -> Json:
    whole = completion("The fee", "error")
    error = {"code": 502, "message": "the provider failed"}
    return {**whole, "choices": [{**choice, "error": error} for choice in whole["choices"]]}


FAULTS: Mapping[str, Reply] = {
    **{
        str(status): fails(status, f"failure {status}", metadata={"error_type": error_type})
        for status, error_type in ERROR_TYPES.items()
    },
    "429 platform": limits(0),
    "429 date": limits(0, as_date=True),
    "429 provider": limits(0, platform=False),
    "400 without code": unavailable(400, "model_not_found", "No such model"),
    "404 without code": unavailable(404, "no_endpoints", "No endpoints found"),
    "503 without code": unavailable(503, "temporarily_unavailable", "Try again", retryable=True, retry_after=0),
    "error within": sends({"error": {"code": 502, "message": "the provider failed"}}),
    "error in the choice": sends(_broken_completion()),
    "html": sends(b"<html><body>Bad gateway</body></html>", 502, "text/html"),
    "html with 200": sends(b"<html><body>Sign in</body></html>", 200, "text/html"),
    "truncated JSON": sends(b'{"object": "list", "data": [{"obj'),
    "broken off": breaks_off(b'{"object": "list", "data": [{"obj'),
    "no object": sends(b"[]"),
    "empty object": sends({}),
    "empty body": sends(b""),
    "reset": resets,
    "stall": stalls,
    "cut stream": streams(COMMENT, event(chunk("The fee")), end="cut"),
    "stalled stream": streams(COMMENT, event(chunk("The fee")), end="stall"),
    "error in the stream": streams(COMMENT, event(chunk("The fee")), event(error_chunk())),
}
"""Every failure by name. The streams are for the chat alone."""
