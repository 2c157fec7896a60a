"""What a reply says it took, read leniently: every field may be missing, null or nonsense. Pure."""

from collections.abc import Mapping
from typing import Any

from rag.domain import Usage


def usage_in(reply: Mapping[str, Any]) -> Usage | None:
    """The `usage` of a reply; None when it reports none."""
    reported = reply.get("usage")
    if not isinstance(reported, dict):
        return None
    return Usage(
        prompt_tokens=_count(reported.get("prompt_tokens")),
        completion_tokens=_count(reported.get("completion_tokens")),
        search_units=_count(reported.get("search_units")),
        cost=_cost(reported.get("cost")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _cost(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    return None
