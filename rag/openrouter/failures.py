"""What a failed reply means, as a sentence for the person who can do something about it. Pure.

Statuses and error types are those of OpenRouter's API reference ("Errors and debugging"); compatible servers send
fewer of them. What a server says about itself is hostile text: it is shortened, cleaned and never repeats the key.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from rag.errors import (
    BadKey,
    BadReply,
    InputRejected,
    ModelUnavailable,
    OutOfCredit,
    ProviderDown,
    ProviderError,
    RateLimited,
)

_QUOTED = 200
_SECRET = re.compile(r"\bsk-[\w*.…-]{4,}")

# Servers that answer 200 with an error inside may name it only by its type, or by a code that is a word.
_STATUS_OF_TYPE = {
    "invalid_request": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "token_limit_exceeded": 400,
    "string_too_long": 400,
    "content_policy_violation": 400,
    "model_not_found": 404,
    "authentication": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "not_found": 404,
    "timeout": 408,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "server": 500,
    "server_error": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
}
_UNUSABLE_MODEL = {
    "model_not_found",
    "wrong_endpoint",
    "no_endpoints",
    "model_deprecated",
    "model_unavailable_upstream",
    "privacy_restricted",
    "constraint_filtered",
    "free_variant_ended",
    "region_restricted",
}
_NAMES_THE_MODEL = re.compile(
    r"not a valid model|\bmodel\b.{0,200}\b(?:not found|not exist|not supported|unknown)|no endpoints found",
    re.I | re.S,
)


@dataclass(frozen=True, slots=True)
class Server:
    """Who answered: the host to name, whether a key was sent to it, and the key that must not be repeated."""

    host: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a call is for: the words for it ("embedding"), its model and the setting that names the model."""

    name: str
    model: str
    setting: str


def error_in(payload: object) -> Mapping[str, Any] | None:
    """The error object of a reply: at the top level or in the first choice; None when there is none."""
    if not isinstance(payload, dict):
        return None
    if error := payload.get("error"):
        return error if isinstance(error, dict) else {"message": str(error)}
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict) and choice.get("error"):
        return error_in(choice)
    return None


def parsed(body: bytes | str) -> object:
    """The JSON of a reply, None when it is none (a proxy's HTML, a cut reply)."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait: `retry-after-ms`, else `Retry-After` in seconds or as an HTTP date."""
    if milliseconds := _number(headers.get("retry-after-ms")):
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


Meaning = tuple[type[ProviderError], str]

_NO_KEY: Meaning = (BadKey, "{host} asks for a key ({status}). Set OPENROUTER_API_KEY.")
_CONTENT: Meaning = (InputRejected, "{host} refused the text because of its rules on content ({status}).")
_MODEL: Meaning = (ModelUnavailable, "The {name} model {model} cannot be used at {host} ({status}). Check {setting}.")
_NO_SERVICE: Meaning = (
    ModelUnavailable,
    "There is no {name} service at {host} ({status}). Check OPENROUTER_BASE_URL and {setting}.",
)
_REFUSED: Meaning = (InputRejected, "{host} refused the {name} request for {model} ({status}).")
_DOWN: Meaning = (ProviderDown, "{host} could not complete the {name} request ({status}). Try again in a minute.")
_REDIRECT: Meaning = (
    BadReply,
    "{host} answers with a redirect ({status}). Set OPENROUTER_BASE_URL to the final address.",
)
_BY_STATUS: dict[int, Meaning] = {
    401: (BadKey, "The key was refused by {host} ({status}). Check OPENROUTER_API_KEY."),
    402: (OutOfCredit, "No credit left at {host} ({status}). Add credit or raise the key's limit."),
    403: (BadKey, "The key may not be used for this at {host} ({status}). Check its permissions and limits."),
    404: _MODEL,
    408: _DOWN,
    413: (InputRejected, "The {name} request was too large for {host} ({status})."),
    429: (RateLimited, "{host} takes no more {name} requests for now ({status}). Wait a moment and try again."),
}
_BY_CLASS: dict[int, Meaning] = {3: _REDIRECT, 4: _REFUSED, 5: _DOWN}


def failure(
    status: int, error: Mapping[str, Any] | None, wait: float | None, purpose: Purpose, server: Server
) -> ProviderError:
    """The error to raise for a reply with this HTTP status, the `error` object in it and the wait it asks for."""
    details = error or {}
    if status < 300:
        status = _inner_status(details)
    special = _special(status, error, server)
    kind, sentence = special or _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, _DOWN)
    sentence = sentence.format(
        host=server.host, status=status, name=purpose.name, model=purpose.model, setting=purpose.setting
    )
    # "Provider returned error" alone helps nobody; what the provider returned is in the metadata.
    words = (details.get("message"), _mapping(details.get("metadata")).get("raw"))
    said = _said(": ".join(word for word in words if isinstance(word, str) and word), server)
    return kind(sentence + said, status=status, retry_after=wait)


def _special(status: int, error: Mapping[str, Any] | None, server: Server) -> Meaning | None:
    """What the status alone does not say."""
    if status == 401 and not server.key:
        return _NO_KEY
    if error is None:
        return _NO_SERVICE if status == 404 else None
    reason = _mapping(error.get("availability")).get("code") or _kind(error)
    # A wrong model is a 400 for some servers and a 404 for others, with a code, a word for it or neither.
    if reason in _UNUSABLE_MODEL or (status in (400, 403, 404) and _NAMES_THE_MODEL.search(str(error.get("message")))):
        return _MODEL
    if status == 403 and {"reasons", "patterns", "flagged_input"} & _mapping(error.get("metadata")).keys():
        return _CONTENT
    return None


def _kind(error: Mapping[str, Any]) -> str:
    """The word an error has for itself, "" without one."""
    words = (_mapping(error.get("metadata")).get("error_type"), *map(error.get, ("error_type", "code", "type")))
    return next((word for word in words if isinstance(word, str) and not word.isdecimal()), "")


def _inner_status(error: Mapping[str, Any]) -> int:
    """The status that an error inside a 200 stands for; 502 when it does not say."""
    for value in map(error.get, ("code", "http_status", "status")):
        if isinstance(value, int | str) and str(value).isdecimal() and 400 <= int(value) < 600:
            return int(value)
    return _STATUS_OF_TYPE.get(_kind(error), 502)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _said(message: str, server: Server) -> str:
    """What the server said, fit to be shown after a sentence of ours; "" when it said nothing."""
    if server.key:
        message = message.replace(server.key, "[key]")
    message = _SECRET.sub("[key]", message)
    # Not printable: control characters, line ends, and marks that turn the direction of what follows.
    message = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    if len(message) > _QUOTED:
        message = message[: _QUOTED - 1] + "…"
    return f" It says: “{message}”" if message else ""
