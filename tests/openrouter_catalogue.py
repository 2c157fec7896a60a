"""What the tests' server offers: invented models of every kind, their providers, and the key's account."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from tests.openrouter_contract import Refused, demand, pictures_in

Json = Mapping[str, Any]

_WRITING = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "response_format")


def _model(
    id: str,
    context: int | None,
    pricing: Mapping[str, str],
    *,
    takes: Sequence[str] = ("text",),
    gives: str = "text",
    parameters: Sequence[str] = (),
    **more: Any,
) -> Json:
    return {
        "id": id,
        "canonical_slug": f"{id.removeprefix('~')}-2026-01-15",
        "name": f"Maker: {id.partition('/')[2]}",
        "created": 1_768_435_200,
        "description": "Invented.",
        "context_length": context,
        "architecture": {
            "modality": f"{'+'.join(takes)}->{gives}",
            "input_modalities": list(takes),
            "output_modalities": [gives],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {"prompt": "0", "completion": "0", **pricing},
        "top_provider": {"context_length": context, "max_completion_tokens": None, "is_moderated": False},
        "per_request_limits": None,
        "supported_parameters": list(parameters),
        "default_parameters": None,
        "supported_voices": None,
        "links": {"details": f"/api/v1/models/{id}/endpoints"},
        **more,
    }


MODELS: Sequence[Json] = (
    _model(
        "maker/chat-1",
        128_000,
        {"prompt": "0.0000005", "completion": "0.000002", "input_cache_read": "0.00000005"},
        parameters=(*_WRITING, "structured_outputs"),
        default_parameters={"temperature": 0.7, "top_p": None},
    ),
    _model(
        "maker/seeing-chat-1",
        1_000_000,
        {"prompt": "0.000001", "completion": "0.000004", "image": "0.001"},
        takes=("text", "image", "file"),
        parameters=_WRITING,
    ),
    _model(
        "maker/thinking-chat-1",
        200_000,
        {"prompt": "0.000003", "completion": "0.000015", "internal_reasoning": "0.000015"},
        parameters=(*_WRITING, "structured_outputs", "reasoning", "include_reasoning"),
        reasoning={"mandatory": False, "default_enabled": True, "supported_efforts": ["high", "medium", "low"]},
    ),
    _model(
        "~maker/chat-latest",
        None,
        {"prompt": "0.0000005", "completion": "0.000002"},
        parameters=_WRITING,
        alias_target={"slug": "maker/chat-1", "name": "Maker: chat-1"},
    ),
    _model("maker/embed-1", 512, {"prompt": "0.00000002"}, gives="embeddings"),
    _model("maker/seeing-embed-1", 8_192, {"prompt": "0.0000001"}, takes=("text", "image"), gives="embeddings"),
    _model("maker/rerank-1", 4_096, {"request": "0.002"}, gives="rerank"),
    _model("maker/seeing-rerank-1", 10_240, {"request": "0.001"}, takes=("text", "image"), gives="rerank"),
)


def _listed(models: Sequence[Json], id: str) -> Json | None:
    return next((model for model in models if model["id"] == id), None)


def resolved(models: Sequence[Json], id: str) -> str:
    """The concrete model behind a name; "~writer/latest", though not listed, stands for "writer/large-2026"."""
    model = _listed(models, id)
    if model and "alias_target" in model:
        return str(model["alias_target"]["slug"])
    return id.removeprefix("~").replace("latest", "large-2026") if id.startswith("~") else id


def check_model(models: Sequence[Json], id: str, gives: str, body: Json) -> None:
    """Raise Refused when a listed model is asked for what it cannot do; any other name can do everything."""
    model = _listed(models, id)
    if model:
        architecture = model["architecture"]
        if gives not in architecture["output_modalities"]:
            raise Refused(f"{id} is not available for this endpoint", 404, "not_found")
        if "image" not in architecture["input_modalities"] and pictures_in(body):
            raise Refused("No endpoints found that support image input", 404, "not_found")


def check_length(models: Sequence[Json], id: str, text: str) -> None:
    """Raise Refused when a text is longer than a listed model takes, at four characters a token."""
    model = _listed(models, id)
    longest = model["context_length"] if model else None
    if longest and len(text) > 4 * longest:
        raise Refused(f"an input is longer than {longest} tokens", error_type="context_length_exceeded")


def page(models: Sequence[Json], modalities: str, path: str, query: Mapping[str, str]) -> Json:
    """One page of the models that give one of these, and where the next is. Raises Refused."""
    unknown = query.keys() - {"output_modalities", "offset", "limit"}
    demand(not unknown, f"unknown parameters {sorted(unknown)}")
    demand(all(query.get(name, "0").isdecimal() for name in ("offset", "limit")), "offset and limit must be numbers")
    asked = modalities.split(",")
    found = [model for model in models if {"all", *model["architecture"]["output_modalities"]} & set(asked)]
    offset, limit = int(query.get("offset", 0)), int(query.get("limit", 500))
    demand(1 <= limit <= 1000, "limit must be 1 to 1000")
    if not query.keys() & {"offset", "limit"}:
        limit = len(found)
    following = urlencode({**query, "offset": offset + limit, "limit": limit})
    return {
        "data": found[offset : offset + limit],
        "total_count": len(found),
        "links": {"next": f"{path}?{following}" if offset + limit < len(found) else None},
    }


def providers_of(model: Json) -> Json:
    """The answer about a model's providers: a cheap one without figures of its speed, and a dear one with them."""
    measured = {"p50": 0.4, "p75": 0.6, "p90": 1.1, "p99": 2.5}
    dear = {"prompt": "0.00001", "completion": "0.00002"}
    providers = [("Inventor", "inventor/fp8", model["pricing"], None), ("Second", "second", dear, measured)]
    return {
        "id": model["id"],
        "name": model["name"],
        "created": model["created"],
        "description": model["description"],
        "architecture": model["architecture"],
        "endpoints": [
            {
                "name": f"{name} | {model['id']}",
                "model_id": model["id"],
                "model_name": model["name"],
                "context_length": model["context_length"] or 128_000,
                "pricing": pricing,
                "provider_name": name,
                "tag": tag,
                "quantization": "fp8" if "/" in tag else None,
                "max_completion_tokens": None,
                "max_prompt_tokens": None,
                "supported_parameters": model["supported_parameters"],
                "status": 0,
                "uptime_last_5m": None,
                "uptime_last_30m": 99.5,
                "uptime_last_1d": 99.9,
                "supports_implicit_caching": False,
                "latency_last_30m": speed,
                "throughput_last_30m": speed,
                # What the official package demands beyond the published specification.
                "native_tools": {},
                "service_tier": None,
                "supports_diarization": False,
                "supports_tool_choice": dict.fromkeys(("auto", "function", "none", "required"), False),
            }
            for name, tag, pricing, speed in providers
        ],
    }


KEY_INFO: Json = {
    "label": "test-key-0...789",
    "limit": 10.0,
    "limit_remaining": 7.5,
    "limit_reset": "monthly",
    "usage": 12.5,
    "usage_daily": 0.25,
    "usage_weekly": 1.5,
    "usage_monthly": 2.5,
    "byok_usage": 0.0,
    "byok_usage_daily": 0.0,
    "byok_usage_weekly": 0.0,
    "byok_usage_monthly": 0.0,
    "include_byok_in_limit": False,
    "is_free_tier": False,
    "is_management_key": False,
    "is_provisioning_key": False,
    "creator_user_id": None,
    "expires_at": None,
    "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated."},
    # What the official package demands beyond the published specification.
    "allowed_data_regions": ["global"],
    "budgets": [],
    "effective_budget": None,
    "free_model_daily_requests": {"limit": 50, "remaining": 50, "used": 0},
    "organization_id": None,
    "workspace_id": None,
}
"""The key's account: 2.50 of a monthly 10 US dollars are spent."""
