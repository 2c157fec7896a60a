"""What a request to OpenRouter may contain: its published contract, in the strictest reading.

A check is a function of a value and the place it stands at; it raises `Refused`. Unknown fields are refused everywhere,
though the contract closes only `provider`: a misspelt option must not go unnoticed. Pictures must come as data URIs:
nothing here is ever fetched. What this product never sends (tools, audio, video, token arrays, the rarer sampling
options) is left out, and so refused.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[[Any, str], None]

MOST_FALLBACKS = 3
LONGEST_SESSION = 256

_DATA_URI = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,(.+)", re.DOTALL)
_PRICE = re.compile(r"\d+(\.\d+)?([eE][+-]?\d+)?")


class Refused(Exception):
    """The contract was broken: the status and the `error_type` of the answer."""

    def __init__(self, message: str, status: int = 400, error_type: str = "invalid_request") -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type


def demand(true: object, message: str) -> None:
    """Refuse the request unless this is so."""
    if not true:
        raise Refused(message)


# ---------------------------------------------------------------- building blocks


def _string(shortest: int = 0, longest: int | None = None, pattern: str = "(?s).*") -> Check:
    def check(value: Any, where: str) -> None:
        demand(isinstance(value, str), f"{where} is not a string")
        demand(len(value) >= shortest, f"{where} is too short")
        demand(longest is None or len(value) <= longest, f"{where} is longer than {longest}")
        demand(re.fullmatch(pattern, value), f"{where} is malformed")

    return check


def _number(lowest: float = -math.inf, highest: float = math.inf) -> Check:
    def check(value: Any, where: str) -> None:
        demand(type(value) in (int, float) and lowest <= value <= highest, f"{where} is not a number in its range")

    return check


def _whole(lowest: int | None = None) -> Check:
    def check(value: Any, where: str) -> None:
        demand(
            type(value) is int and (lowest is None or value >= lowest), f"{where} is not a whole number in its range"
        )

    return check


def _boolean(value: Any, where: str) -> None:
    demand(isinstance(value, bool), f"{where} is not a boolean")


def _any_object(value: Any, where: str) -> None:
    demand(isinstance(value, dict), f"{where or 'the body'} is not an object")


def _one_of(*allowed: str) -> Check:
    def check(value: Any, where: str) -> None:
        demand(isinstance(value, str) and value in allowed, f"{where} is none of {', '.join(allowed)}")

    return check


def _nullable(inner: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def _list_of(inner: Check, fewest: int = 0, most: int | None = None) -> Check:
    def check(value: Any, where: str) -> None:
        demand(isinstance(value, list), f"{where} is not an array")
        demand(len(value) >= fewest, f"{where} has too few items")
        demand(most is None or len(value) <= most, f"'{where}' array must have {most} items or fewer")
        for index, item in enumerate(value):
            inner(item, f"{where}[{index}]")

    return check


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _object(required: Mapping[str, Check] | None = None, **optional: Check) -> Check:
    required = required or {}
    fields = {**required, **optional}

    def check(value: Any, where: str) -> None:
        _any_object(value, where)
        for name in required.keys() - value.keys():
            raise Refused(f"{_inside(where, name)} is required")
        for name, member in value.items():
            demand(name in fields, f"{_inside(where, name)} is unknown")
            fields[name](member, _inside(where, name))

    return check


def _either(*forms: Check) -> Check:
    def check(value: Any, where: str) -> None:
        refusals = []
        for form in forms:
            try:
                return form(value, where)
            except Refused as refusal:
                refusals.append(str(refusal))
        raise Refused(" and ".join(refusals))

    return check


def _by(member: str, forms: Mapping[str, Check]) -> Check:
    """An object whose form is told by one of its members."""

    def check(value: Any, where: str) -> None:
        _any_object(value, where)
        kind = value.get(member)
        demand(isinstance(kind, str) and kind in forms, f"{where}.{member} is none of {', '.join(forms)}")
        forms[kind](value, where)

    return check


# ---------------------------------------------------------------- shared parts


def picture(uri: str) -> bytes:
    """The bytes of a picture given as a data URI. Raises Refused."""
    match = _DATA_URI.fullmatch(uri)
    if match is None:
        raise Refused("a picture must be a base64 data URI: nothing is fetched from the network")
    try:
        return base64.b64decode(match[1], validate=True)
    except binascii.Error as error:
        raise Refused("a picture's base64 is malformed") from error


def _picture(value: Any, where: str) -> None:
    _string()(value, where)
    picture(value)


_NAME = _string(shortest=1)
_TEXT = _string(shortest=1)
_SLUGS = _nullable(_list_of(_NAME))
_SORTS = _one_of("price", "throughput", "latency", "exacto")
_PRICE_TEXT = _string(pattern=_PRICE.pattern)
_PERCENTILES = _object(**dict.fromkeys(("p50", "p75", "p90", "p99"), _nullable(_number(0))))
_CACHE_CONTROL = _object({"type": _one_of("ephemeral")}, ttl=_one_of("5m", "1h"))
_EFFORT = _nullable(_one_of("max", "xhigh", "high", "medium", "low", "minimal", "none"))

_PROVIDER = _nullable(
    _object(
        order=_SLUGS,
        only=_SLUGS,
        ignore=_SLUGS,
        allow_fallbacks=_nullable(_boolean),
        require_parameters=_nullable(_boolean),
        data_collection=_nullable(_one_of("allow", "deny")),
        zdr=_nullable(_boolean),
        enforce_distillable_text=_nullable(_boolean),
        quantizations=_nullable(
            _list_of(
                _one_of(
                    *("int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8"),
                    *("fp16", "bf16", "fp32", "unknown"),
                )
            )
        ),
        sort=_nullable(_either(_SORTS, _object(by=_nullable(_SORTS), partition=_nullable(_one_of("model", "none"))))),
        max_price=_object(**dict.fromkeys(("prompt", "completion", "request", "image", "audio"), _PRICE_TEXT)),
        preferred_min_throughput=_nullable(_either(_number(0), _PERCENTILES)),
        preferred_max_latency=_nullable(_either(_number(0), _PERCENTILES)),
    )
)

# ---------------------------------------------------------------- /embeddings and /rerank

_INPUT_PART = _by(
    "type",
    {
        "text": _object({"type": _NAME, "text": _TEXT}),
        "image_url": _object({"type": _NAME, "image_url": _object({"url": _picture})}),
    },
)

_embeddings = _object(
    {
        "model": _NAME,
        "input": _either(
            _TEXT,
            _list_of(_TEXT, fewest=1),
            _list_of(_object({"content": _list_of(_INPUT_PART, fewest=1)}), fewest=1),
        ),
    },
    dimensions=_whole(1),
    encoding_format=_one_of("float", "base64"),
    input_type=_TEXT,
    user=_TEXT,
    provider=_PROVIDER,
)


def _document(value: Any, where: str) -> None:
    _either(_string(), _object(text=_string(), image=_picture))(value, where)
    demand(isinstance(value, str) or value, f"{where} has neither text nor image")


_rerank = _object(
    {"model": _NAME, "query": _string(pattern=r"(?s).*\S.*"), "documents": _list_of(_document, fewest=1)},
    top_n=_whole(1),
    provider=_PROVIDER,
)

# ---------------------------------------------------------------- /chat/completions

_TEXT_PART = _object(
    {"type": _NAME, "text": _TEXT},
    cache_control=_CACHE_CONTROL,
    prompt_cache_breakpoint=_nullable(_object({"mode": _one_of("explicit")})),
)
_IMAGE_PART = _object(
    {
        "type": _NAME,
        "image_url": _object({"url": _picture}, detail=_one_of("auto", "low", "high", "original")),
    }
)
_FILE_PART = _object({"type": _NAME, "file": _object(filename=_TEXT, file_data=_TEXT, file_id=_TEXT)})
_TEXT_PARTS = _list_of(_by("type", {"text": _TEXT_PART}), fewest=1)
_PARTS = _list_of(_by("type", {"text": _TEXT_PART, "image_url": _IMAGE_PART, "file": _FILE_PART}), fewest=1)

_INSTRUCTION = _object({"role": _NAME, "content": _either(_TEXT, _TEXT_PARTS)}, name=_TEXT)
_MESSAGE = _by(
    "role",
    {
        "system": _INSTRUCTION,
        "developer": _INSTRUCTION,
        "user": _object({"role": _NAME, "content": _either(_TEXT, _PARTS)}, name=_TEXT),
        "assistant": _object(
            {"role": _NAME, "content": _either(_TEXT, _PARTS)},
            name=_TEXT,
            reasoning=_nullable(_string()),
            reasoning_details=_list_of(_any_object),
            refusal=_nullable(_string()),
        ),
    },
)


def _messages(value: Any, where: str) -> None:
    try:
        _list_of(_MESSAGE, fewest=1)(value, where)
    except Refused as refusal:
        raise Refused(str(refusal), error_type="invalid_prompt") from refusal


def _strict_schema(schema: Any, where: str) -> None:
    """What the makers of strict structured outputs demand: objects closed, and all their members required."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            demand(schema.get("additionalProperties") is False, f"{where} needs additionalProperties: false")
            members = schema.get("properties", {}).keys()
            demand(members == set(schema.get("required", ())), f"{where} must require all its properties")
        for name, inner in schema.items():
            _strict_schema(inner, f"{where}.{name}")
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            _strict_schema(inner, f"{where}[{index}]")


def _json_schema(value: Any, where: str) -> None:
    _object(
        {"name": _string(pattern="[A-Za-z0-9_-]{1,64}"), "schema": _any_object},
        strict=_nullable(_boolean),
        description=_string(),
    )(value, where)
    if value.get("strict"):
        _strict_schema(value["schema"], f"{where}.schema")


def _reasoning(value: Any, where: str) -> None:
    _object(
        effort=_EFFORT,
        max_tokens=_whole(1),
        summary=_nullable(_one_of("auto", "concise", "detailed")),
        exclude=_boolean,
        enabled=_boolean,
    )(value, where)
    demand(not {"effort", "max_tokens"} <= value.keys(), f"{where} has both effort and max_tokens")


def _metadata(value: Any, where: str) -> None:
    _any_object(value, where)
    demand(len(value) <= 16, f"{where} has more than 16 pairs")
    for name, member in value.items():
        _string(longest=64)(name, f"{where}'s key")
        _string(longest=512)(member, f"{where}.{name}")


_PLUGIN = _by(
    "id",
    {
        "file-parser": _object(
            {"id": _NAME},
            enabled=_boolean,
            pdf=_object(engine=_one_of("native", "cloudflare-ai", "mistral-ocr")),
        ),
        "response-healing": _object({"id": _NAME}, enabled=_boolean),
    },
)

_chat = _object(
    {"messages": _messages},
    model=_NAME,
    models=_list_of(_NAME, fewest=1, most=MOST_FALLBACKS),
    stream=_boolean,
    stream_options=_nullable(_object(include_usage=_boolean)),
    usage=_object(include=_boolean),
    temperature=_nullable(_number(0, 2)),
    top_p=_nullable(_number(0, 1)),
    max_completion_tokens=_nullable(_whole(1)),
    max_tokens=_nullable(_whole(1)),
    seed=_nullable(_whole()),
    stop=_nullable(_either(_string(), _list_of(_string(), most=4))),
    reasoning=_reasoning,
    reasoning_effort=_EFFORT,
    response_format=_by(
        "type",
        {
            "text": _object({"type": _NAME}),
            "json_object": _object({"type": _NAME}),
            "json_schema": _object({"type": _NAME, "json_schema": _json_schema}),
        },
    ),
    cache_control=_CACHE_CONTROL,
    provider=_PROVIDER,
    session_id=_string(longest=LONGEST_SESSION),
    user=_TEXT,
    metadata=_metadata,
    plugins=_list_of(_PLUGIN),
)

_FORMS: Mapping[str, Check] = {"/embeddings": _embeddings, "/rerank": _rerank, "/chat/completions": _chat}


def check_body(path: str, body: Any) -> None:
    """Raise Refused unless the contract allows this body of a POST."""
    _FORMS[path](body, "")


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise Refused unless the contract allows these headers of a POST (names in small letters)."""
    demand(headers.get("content-type", "").partition(";")[0] == "application/json", "the body must be JSON")
    demand(len(headers.get("x-session-id", "")) <= LONGEST_SESSION, "x-session-id is too long")


def pictures_in(body: Mapping[str, Any]) -> Sequence[bytes]:
    """The pictures of a checked body of any of the three kinds."""
    documents = [document for document in body.get("documents", []) if isinstance(document, dict)]
    found = [document["image"] for document in documents if "image" in document]
    holders = body.get("messages", []) + (body["input"] if isinstance(body.get("input"), list) else [])
    for holder in holders:
        parts = holder["content"] if isinstance(holder, dict) and isinstance(holder["content"], list) else []
        found += [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [picture(uri) for uri in found]
