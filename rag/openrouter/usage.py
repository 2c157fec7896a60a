"""Figures in replies. What a call took is read leniently: every field may be missing, null or nonsense. Pure."""

import sys
from collections.abc import Mapping
from typing import Any

from rag.domain import Usage


def usage_in(reply: Mapping[str, Any]) -> Usage | None:
    """The `usage` of a reply; None when it reports none."""
    reported = reply.get("usage")
    if not isinstance(reported, dict):
        return None
    cost = finite(reported.get("cost"))
    return Usage(
        prompt_tokens=max(0, whole(reported.get("prompt_tokens")) or 0),
        completion_tokens=max(0, whole(reported.get("completion_tokens")) or 0),
        search_units=max(0, whole(reported.get("search_units")) or 0),
        cost=cost if cost is None or cost >= 0 else None,
    )


def whole(value: object) -> int | None:
    """The value when it is a whole number (JSON's true is none)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def finite(value: object) -> float | None:
    """The value when it is a number that a float can hold: Python's JSON also reads NaN, Infinity and 10**400."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    return None
