"""What a failed call means, as a sentence for the person who can do something about it. Pure.

Statuses and error types are those of OpenRouter's API reference ("Errors and debugging"); compatible servers send
fewer of them. `docs/failures.md` lists every sentence. What a server says about itself is hostile text: it is
shortened, cleaned, never repeats the key and stands in the failure's details, not in the sentence.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from rag.domain import Failure, Remedy
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
from rag.openrouter.usage import label

_QUOTED = 200
_SECRET = re.compile(r"\bsk-[\w*.…-]{4,}")
_REQUEST_IDS = ("x-generation-id", "x-request-id", "cf-ray")
_RATE_LIMIT = "x-ratelimit-"

# Servers that answer 200 with an error inside may name it only by its type, or by a code that is a word.
_STATUS_OF_TYPE = {
    "invalid_request": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "max_tokens_exceeded": 400,
    "token_limit_exceeded": 400,
    "string_too_long": 400,
    "content_policy_violation": 400,
    "refusal": 400,
    "invalid_image": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "unsupported_image_format": 400,
    "image_not_found": 400,
    "image_download_failed": 400,
    "authentication": 401,
    "payment_required": 402,
    "insufficient_quota": 402,
    "permission_denied": 403,
    "region_restricted": 403,
    "not_found": 404,
    "model_not_found": 404,
    "timeout": 408,
    "precondition_failed": 412,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "capacity_exhausted": 429,
    "server": 500,
    "server_error": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
    "temporarily_unavailable": 503,
}


class AccountRateLimited(RateLimited):
    """The server's own limit for the account is reached, which holds for all of its models."""


class TooLong(InputRejected):
    """The input is longer than the model takes."""


class Misconfigured(ProviderDown):
    """No connection can be made as things are set up; time alone does not help."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who answered: the host to name, whether a key was sent to it, and the key that must not be repeated.

    The settings name the address and the key.
    """

    host: str
    key: str | None = field(repr=False)
    address_setting: str = "OPENROUTER_BASE_URL"
    key_setting: str = "OPENROUTER_API_KEY"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a call is for: the words for it ("embedding"), its model ("" for none) and the setting that names it."""

    name: str
    model: str
    setting: str


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a failure is, where something can be done about it, and the sentence that says what."""

    kind: type[ProviderError]
    remedy: Remedy
    sentence: str


_KEYS = "Settings → Keys ({key_setting})"
_MODELS = "Settings → Models ({setting})"

NO_KEY = Meaning(BadKey, "key", f"{{host}} asks for a key ({{status}}): set one in {_KEYS}.")
KEY_REFUSED = Meaning(BadKey, "key", f"{{host}} does not accept the key ({{status}}): check it in {_KEYS}.")
KEY_DISABLED = Meaning(
    BadKey,
    "key",
    f"The key is disabled or has expired at {{host}} ({{status}}): enable it there or set another in {_KEYS}.",
)
NOT_ALLOWED = Meaning(
    BadKey,
    "key",
    f"The key may not be used for this at {{host}} ({{status}}): allow it there or set another in {_KEYS}.",
)
NO_CREDIT = Meaning(OutOfCredit, "credit", "The account at {host} has no credit left ({status}): add some there.")
TOO_LITTLE_CREDIT = Meaning(
    OutOfCredit,
    "credit",
    "The credit left at {host} does not cover the longest possible answer ({status}): add some there, or shorten "
    "answers in Settings → Answers.",
)
KEY_SPENT = Meaning(
    OutOfCredit,
    "key",
    f"The key has reached its own limit at {{host}} ({{status}}): raise the limit there or set another key in {_KEYS}.",
)
CONTENT = Meaning(
    InputRejected,
    "models",
    f"{{host}} refused the text because of its rules on content ({{status}}): change the text, or choose another model "
    f"in {_MODELS}.",
)
GUARDRAIL = Meaning(
    InputRejected,
    "key",
    "A guardrail of the account at {host} refused the text ({status}): change the text, or the guardrail there.",
)
REGION = Meaning(
    ModelUnavailable,
    "models",
    f"{{model}} is not offered in this region by {{host}} ({{status}}): choose another model in {_MODELS}.",
)
MODEL = Meaning(
    ModelUnavailable,
    "models",
    f"The {{name}} model {{model}} cannot be used at {{host}} ({{status}}): choose another in {_MODELS}.",
)
NOT_FREE = Meaning(
    ModelUnavailable,
    "models",
    f"{{host}} no longer offers {{model}} for free ({{status}}): take “:free” off its name or choose another in "
    f"{_MODELS}.",
)
ROUTING = Meaning(
    ModelUnavailable,
    "routing",
    "No provider of {model} meets the preferences ({status}): relax them in Settings → Routing, or those of the "
    "account at {host}.",
)
NO_SERVICE = Meaning(
    ModelUnavailable,
    "server",
    f"There is no {{name}} service at {{host}} ({{status}}): check {{address_setting}} and {_MODELS}.",
)
TOO_LONG = Meaning(
    TooLong,
    "models",
    f"The {{name}} request is longer than {{model}} takes ({{status}}): shorten it, or choose a model with a longer "
    f"context in {_MODELS}.",
)
TOO_LARGE = Meaning(
    InputRejected,
    "models",
    "The {name} request is too large for {host} ({status}): make the text shorter or the pictures smaller.",
)
PICTURE = Meaning(
    InputRejected,
    "models",
    f"{{model}} cannot use a picture it was sent ({{status}}): choose a model that takes pictures in {_MODELS}.",
)
REFUSED = Meaning(
    InputRejected,
    "models",
    f"{{host}} refused the {{name}} request for {{model}} as it is ({{status}}): check {_MODELS}.",
)
TOO_SLOW = Meaning(
    ProviderDown, "wait", "{host} gave up waiting for {model} ({status}): try again {when}, or with another model."
)
BUSY = Meaning(RateLimited, "wait", "{host} takes no more {name} requests for now ({status}): try again {when}.")
BUSY_ACCOUNT = Meaning(
    AccountRateLimited, "wait", "{host} takes no more requests of this account for now ({status}): try again {when}."
)
BUSY_PROVIDER = Meaning(
    RateLimited,
    "wait",
    "The provider of {model} takes no more requests for now ({status}): try again {when}, or allow other providers in "
    "Settings → Routing.",
)
FREE_SPENT = Meaning(
    AccountRateLimited,
    "credit",
    f"The day's free requests at {{host}} are used up ({{status}}): add credit there, choose a model that is not free "
    f"in {_MODELS}, or try again {{when}}.",
)
SERVER_FAULT = Meaning(ProviderDown, "wait", "{host} made a mistake of its own ({status}): try again {when}.")
NO_ANSWER = Meaning(
    ProviderDown,
    "wait",
    "The provider of {model} gave no usable answer ({status}): try again {when}, or allow other providers in "
    "Settings → Routing.",
)
OVERLOADED = Meaning(
    ProviderDown,
    "wait",
    "The provider of {model} is overloaded ({status}): try again {when}, or allow other providers in "
    "Settings → Routing.",
)
DOWN = Meaning(ProviderDown, "wait", "{host}, or a proxy before it, is failing ({status}): try again {when}.")
REDIRECT = Meaning(
    BadReply, "server", "{host} redirects to another address ({status}): set {address_setting} to the final one."
)
NOT_JSON = Meaning(
    BadReply,
    "server",
    "{host} answered the {name} request with something that is not JSON: check {address_setting}, or whether a proxy "
    "stands in between.",
)
TOO_MUCH = Meaning(
    BadReply,
    "server",
    "{host} sent far more than the {name} request asked for: check {address_setting}, or whether a proxy stands in "
    "between.",
)
NO_NAME = Meaning(
    ProviderDown,
    "server",
    "The name {host} is not known to this machine's network: check {address_setting} and the network connection.",
)
UNREACHABLE = Meaning(
    ProviderDown, "server", "{host} cannot be reached: check the network connection and {address_setting}."
)
UNVERIFIED = Meaning(
    Misconfigured,
    "server",
    "The certificate of {host} cannot be verified: check {address_setting} and this machine's certificates.",
)
NO_TLS = Meaning(
    Misconfigured,
    "server",
    "No encrypted connection to {host} could be made: check whether {address_setting} should begin with http:// or "
    "https://.",
)
PROXY = Meaning(
    Misconfigured, "server", "The proxy on the way to {host} refused: check the proxy settings of this machine."
)
SILENT = Meaning(
    ProviderDown,
    "wait",
    "{host} was silent for {silence:g} seconds during the {name} request: try again {when}, or with another model.",
)
BROKEN = Meaning(ProviderDown, "wait", "{host} broke off the {name} request: try again {when}.")

_BY_STATUS = {
    401: KEY_REFUSED,
    402: NO_CREDIT,
    403: NOT_ALLOWED,
    404: MODEL,
    408: TOO_SLOW,
    413: TOO_LARGE,
    429: BUSY,
    500: SERVER_FAULT,
    501: NO_SERVICE,
    502: NO_ANSWER,
    503: OVERLOADED,
    504: TOO_SLOW,
    524: TOO_SLOW,
    529: OVERLOADED,
}
_BY_CLASS = {3: REDIRECT, 4: REFUSED, 5: DOWN}
_BY_WORD = {
    "context_length_exceeded": TOO_LONG,
    "max_tokens_exceeded": TOO_LONG,
    "token_limit_exceeded": TOO_LONG,
    "string_too_long": TOO_LONG,
    "content_policy_violation": CONTENT,
    "refusal": CONTENT,
    "invalid_image": PICTURE,
    "image_too_large": PICTURE,
    "image_too_small": PICTURE,
    "unsupported_image_format": PICTURE,
    "image_not_found": PICTURE,
    "image_download_failed": PICTURE,
    "insufficient_quota": NO_CREDIT,  # OpenAI's own, with status 429
    "model_not_found": MODEL,
    "wrong_endpoint": MODEL,
    "no_endpoints": MODEL,
    "model_deprecated": MODEL,
    "model_unavailable_upstream": MODEL,
    "free_variant_ended": NOT_FREE,
    "privacy_restricted": ROUTING,
    "constraint_filtered": ROUTING,
    "region_restricted": REGION,
}

# What words of a message add where the status alone does not say it; tried in order, only at these statuses.
_BY_MESSAGE = [
    ((401,), r"disabled|expired|revoked|deactivated", KEY_DISABLED),
    ((402,), r"fewer max_tokens|can only afford", TOO_LITTLE_CREDIT),
    ((402, 403), r"key limit|key's limit|limit exceeded|(?:total|daily|weekly|monthly) limit|settings/keys", KEY_SPENT),
    ((403,), r"\b(?:region|country|territory)\b", REGION),
    ((403,), r"moderation|flagged|content policy", CONTENT),
    (
        (404, 503),
        r"data policy|guardrail restrictions|allowed providers|providers have been ignored|routing requirements"
        r"|requested parameters|provider preferences|max[ _]price|zero data retention",
        ROUTING,
    ),
    # Compatible servers answer 500 to what they cannot do as well.
    ((400, 404, 500), r"support (?:image|images|vision)|image input|not (?:a )?multimodal", PICTURE),
    ((500,), r"response_format|validation error", REFUSED),
    (
        (400, 403, 404),
        r"not a valid model|\bmodel\b.{0,200}\b(?:not found|not exist|not supported|unknown)|no endpoints found",
        MODEL,
    ),
    (
        (400, 413, 422, 500),
        r"context (?:length|window|size)|maximum .{0,40}tokens|too many tokens"
        r"|(?:input|text|prompt).{0,60}too (?:long|large)|longer than \d+ tokens",
        TOO_LONG,
    ),
    ((429,), r"free[ -]models?[ -]per[ -]day|requests per day|daily", FREE_SPENT),
    ((429,), r"free[ -]models?[ -]per[ -]min", BUSY_ACCOUNT),
    ((429,), r"upstream|provider returned", BUSY_PROVIDER),
]
_MESSAGES = [(statuses, re.compile(words, re.I | re.S), meaning) for statuses, words, meaning in _BY_MESSAGE]


# ---------------------------------------------------------------- reading a reply


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


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _wait(headers: Mapping[str, str], limits: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Seconds to wait: as the headers or the error say, else until the account's limit starts anew."""
    wait = retry_after(headers)
    if wait is None:
        wait = _number(_mapping(error.get("availability")).get("retry_after"))
    if wait is None and (reset := _number(limits.get("x-ratelimit-reset"))):
        # Milliseconds since 1970, of which seconds would be another thousand years away.
        left = reset / (1000 if reset > 1e11 else 1) - datetime.now(UTC).timestamp()
        wait = left if left > 0 else None
    return wait


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def without_key(payload: Mapping[str, Any], server: Server) -> Mapping[str, Any]:
    """A reply in whose names of model and provider, which are kept and shown, the key does not stand."""
    echoed = [name for name in ("model", "provider") if server.key and server.key in str(payload.get(name))]
    return {**payload, **dict.fromkeys(echoed, "[key]")} if echoed else payload


# ---------------------------------------------------------------- what it means


def failure(
    status: int, payload: object, headers: Mapping[str, str], purpose: Purpose, server: Server
) -> ProviderError:
    """The error to raise for a reply with this HTTP status, JSON (None without) and headers (names in lower case)."""
    reported = error_in(payload)
    error = reported or _foreign_error(payload)
    metadata = _mapping(error.get("metadata"))
    if status < 300:
        status = _inner_status(error)
    # OpenRouter repeats the headers of its own limits in the error, where they outlive proxies.
    limits = {
        name.lower(): str(value)
        for name, value in (*_mapping(metadata.get("headers")).items(), *headers.items())
        if name.lower().startswith(_RATE_LIMIT)
    }
    meaning = (
        _by_shape(status, reported, error, purpose, server)
        or _by_words(status, error)
        or _by_status(status, reported, bool(limits))
    )
    raised = explained(
        meaning,
        purpose,
        server,
        status=status,
        wait=_wait(headers, limits, error),
        said=_words(error, metadata),
    )
    provider = metadata.get("provider_name") or _mapping(payload).get("provider")
    return identified(raised, {**_mapping(payload), "provider": provider}, headers, server.key)


def explained(
    meaning: Meaning,
    purpose: Purpose,
    server: Server,
    *,
    status: int | None = None,
    wait: float | None = None,
    silence: float = 0.0,
    said: str = "",
) -> ProviderError:
    """The error that tells a meaning to the person; `wait` are the seconds the server asks for, if it does."""
    sentence = meaning.sentence.format(
        host=server.host,
        status=status,
        name=purpose.name,
        model=purpose.model or server.host,
        setting=purpose.setting,
        address_setting=server.address_setting,
        key_setting=server.key_setting,
        when=_when(wait),
        silence=silence,
    )
    details = Failure(status, "", "", _shortened(_cleaned(said, server.key)), meaning.remedy)
    return meaning.kind(sentence, retry_after=wait, failure=details)


def identified(
    error: ProviderError, payload: Mapping[str, Any], headers: Mapping[str, str], key: str | None = None
) -> ProviderError:
    """The same error, with what the reply says about who made it and how the server knows the request."""
    ids = (*map(headers.get, _REQUEST_IDS), payload.get("id"), payload.get("request_id"))
    error.failure = replace(
        error.failure,
        provider=error.failure.provider or _cleaned(label(payload.get("provider")), key),
        request_id=error.failure.request_id or _cleaned(next(filter(None, map(label, ids)), ""), key),
    )
    return error


def _by_shape(
    status: int, reported: Mapping[str, Any] | None, error: Mapping[str, Any], purpose: Purpose, server: Server
) -> Meaning | None:
    """What the members of the error say beyond its status."""
    metadata = _mapping(error.get("metadata"))
    if status == 401 and not server.key:
        return NO_KEY
    if meaning := _BY_WORD.get(_kind(error)):
        return meaning
    if status == 404 and (reported is None or not purpose.model):
        return NO_SERVICE
    if status in (400, 403) and "patterns" in metadata:
        return GUARDRAIL
    if status in (400, 403) and {"reasons", "flagged_input"} & metadata.keys():
        return CONTENT
    return None


def _by_words(status: int, error: Mapping[str, Any]) -> Meaning | None:
    """What the message of the error says beyond its status."""
    metadata = _mapping(error.get("metadata"))
    message = f"{_words(error, metadata)} {metadata.get('limit_source')}"
    found = (meaning for statuses, words, meaning in _MESSAGES if status in statuses and words.search(message))
    return next(found, None)


def _by_status(status: int, reported: Mapping[str, Any] | None, limited: bool) -> Meaning:
    if status == 429 and limited:
        return BUSY_ACCOUNT
    if status == 429 and _mapping((reported or {}).get("metadata")).get("provider_name"):
        return BUSY_PROVIDER
    if status >= 500 and reported is None:
        return DOWN
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, DOWN)


def _foreign_error(payload: object) -> Mapping[str, Any]:
    """What servers built otherwise say on failure: `detail` (FastAPI) or `message` at the top level."""
    reply = _mapping(payload)
    said = reply.get("detail") or reply.get("message") or ""
    return {"message": said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)}


def _kind(error: Mapping[str, Any]) -> str:
    """The word an error has for itself, "" without one."""
    words = (
        _mapping(error.get("availability")).get("code"),
        _mapping(error.get("metadata")).get("error_type"),
        *map(error.get, ("error_type", "code", "type")),
    )
    return next((word for word in words if isinstance(word, str) and not word.isdecimal()), "")


def _inner_status(error: Mapping[str, Any]) -> int:
    """The status that an error inside a 200 stands for; 502 when it does not say."""
    for value in map(error.get, ("code", "http_status", "status")):
        if isinstance(value, int | str) and str(value).isdecimal() and 400 <= int(value) < 600:
            return int(value)
    return _STATUS_OF_TYPE.get(_kind(error), 502)


def _words(error: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """The server's words. "Provider returned error" alone helps nobody; what it returned is in the metadata."""
    return ": ".join(word for word in (error.get("message"), metadata.get("raw")) if isinstance(word, str) and word)


def _when(wait: float | None) -> str:
    """In how long to try again, rounded up."""
    if wait is None:
        return "in a minute"
    for unit, seconds in (("hour", 3600), ("minute", 60)):
        if wait > 1.5 * seconds:
            return f"in {-(-wait // seconds):.0f} {unit}s"
    count = max(1, -(-wait // 1))
    return f"in {count:.0f} second{'s' if count > 1 else ''}"


def _cleaned(text: str, key: str | None) -> str:
    """What the server said, fit to be shown."""
    text = _SECRET.sub("[key]", text.replace(key, "[key]") if key else text)
    # Not printable: control characters, line ends, and marks that turn the direction of what follows.
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _shortened(text: str) -> str:
    return text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"
