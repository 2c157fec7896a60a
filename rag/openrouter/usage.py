"""Figures in replies. What a call took is read leniently: every field may be missing, null or nonsense. Pure."""

import sys
from collections.abc import Mapping
from typing import Any

from rag.domain import Usage

_BYTES_PER_TOKEN = 4  # of UTF-8: right for English, and close for scripts of two or three bytes a character
_FEWEST_BYTES_PER_TOKEN = 3  # on the safe side: what numbers, names and languages other than English rarely fall below
_LONGEST_LABEL = 200


def usage_in(reply: Mapping[str, Any]) -> Usage | None:
    """The `usage` of a reply; None when it reports none.

    Embeddings and rerankers may report only a total, which is then their prompt's.
    """
    reported = reply.get("usage")
    if not isinstance(reported, dict):
        return None
    of_prompt, of_completion = reported.get("prompt_tokens_details"), reported.get("completion_tokens_details")
    total, completion = _count(reported, "total_tokens"), _count(reported, "completion_tokens")
    prompt, units, cost = _count(reported, "prompt_tokens"), _count(reported, "search_units"), _cost(reported)
    if (total, completion, prompt, units, cost) == (None, None, None, None, None):
        return None
    if prompt is None:
        prompt = max(0, (total or 0) - (completion or 0))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion or 0,
        search_units=units or 0,
        cost=cost,
        cached_tokens=_count(of_prompt, "cached_tokens") or 0,
        cache_write_tokens=_count(of_prompt, "cache_write_tokens") or 0,
        reasoning_tokens=_count(of_completion, "reasoning_tokens") or 0,
    )


def _count(of: object, name: str) -> int | None:
    number = whole(of.get(name)) if isinstance(of, dict) else None
    return number if number is not None and number >= 0 else None


def _cost(reported: Mapping[str, Any]) -> float | None:
    """US dollars. With a provider's key of one's own (`is_byok`) the provider's price comes on top of OpenRouter's."""
    cost = finite(reported.get("cost"))
    if cost is None or cost < 0:
        return None
    details = reported.get("cost_details")
    if reported.get("is_byok") is True and isinstance(details, dict):
        cost += max(0.0, finite(details.get("upstream_inference_cost")) or 0.0)
    return cost


def estimated_tokens(text: str) -> float:
    """About how many tokens a text is: its bytes of UTF-8 / 4."""
    return len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN


def most_tokens(text: str) -> int:
    """How many tokens a text has at most, nearly always: its bytes of UTF-8 / 3, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // _FEWEST_BYTES_PER_TOKEN)


def shortened(text: str, tokens: int) -> str:
    """The beginning of a text that has at most so many tokens by `most_tokens`; the text itself where all of it has."""
    most = tokens * _FEWEST_BYTES_PER_TOKEN
    if 4 * len(text) <= most:  # no character has more bytes
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[:most].decode("utf-8", "ignore")


def label(value: object) -> str:
    """A short printable name that a server gives, "" when it is none."""
    return value[:_LONGEST_LABEL] if isinstance(value, str) and value.isprintable() else ""


def whole(value: object) -> int | None:
    """The value when it is a whole number (JSON's true is none)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def finite(value: object) -> float | None:
    """The value when it is a number that a float can hold: Python's JSON also reads NaN, Infinity and 10**400."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    return None
