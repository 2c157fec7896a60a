"""Replies in a form: how it is asked for, and how the object is found in whatever comes back. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rag.domain import Turn
from rag.interfaces import Form
from rag.openrouter.thinking import said

_MOST_BEGINNINGS = 50
_DECODER = json.JSONDecoder(strict=False)  # a raw line end within a string is a common slip


def response_format(form: Form) -> dict[str, Any]:
    """The request field for servers that hold a model to a schema."""
    return {
        "type": "json_schema",
        "json_schema": {"name": form.name, "strict": True, "schema": dict(form.schema)},
    }


def described(turns: Sequence[Turn], form: Form) -> list[Turn]:
    """The same dialogue for servers that cannot: its last turn asks for the form in words."""
    schema = json.dumps(form.schema, ensure_ascii=False)
    asked = f"Answer with one JSON object and nothing else. It must fit this JSON schema:\n{schema}"
    *before, last = turns
    return [*before, replace(last, content=f"{last.content}\n\n{asked}" if last.content else asked)]


def object_in(content: str) -> Mapping[str, Any] | None:
    """The first JSON object in a reply, past its thoughts and whatever stands around it; None without one."""
    text = said(content)
    start = text.find("{")
    for _ in range(_MOST_BEGINNINGS):  # each may be read to its end: a reply of braces must not take forever
        if start < 0:
            break
        try:
            found, _end = _DECODER.raw_decode(text, start)
            # An escaped half of a surrogate pair becomes "?": it could be neither stored nor sent.
            whole: dict[str, Any] = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
        else:
            return whole
    return None
