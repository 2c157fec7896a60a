"""rag.openrouter.structured: an object is found in whatever a model makes of the request for one."""

import json
from typing import Any

import pytest

from rag.domain import Turn
from rag.interfaces import Form
from rag.openrouter.structured import described, object_in, response_format

FORM = Form("verdicts", {"type": "object", "properties": {"größe": {"type": "string"}}})


def test_the_schema_is_to_be_held_to_strictly() -> None:
    """As the contract wants it."""
    assert response_format(FORM) == {
        "type": "json_schema",
        "json_schema": {"name": "verdicts", "strict": True, "schema": FORM.schema},
    }


def test_the_last_turn_can_describe_the_schema() -> None:
    """After its own words; the others stay as they are, so that a cache can serve them."""
    first, last = described([Turn("system", "Judge."), Turn("user", "Is it so?", stable="Sources")], FORM)
    assert first == Turn("system", "Judge.")
    assert last.stable == "Sources"
    assert last.content.startswith("Is it so?\n\n")
    assert last.content.endswith(json.dumps(FORM.schema, ensure_ascii=False))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('\n {"a": {"b": [1, "}"]}} ', {"a": {"b": [1, "}"]}}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('Here you are:\n```\n{"a": 1}\n```\nAnything else?', {"a": 1}),
        ('In {braces} and {"half": then {"a": 1} and {"b": 2}', {"a": 1}),
        ('<think>{"a": 0}?</think>{"a": 1}', {"a": 1}),
        ('Maybe {"a": 0}?\n</think>\n{"a": 1}', {"a": 1}),
        ('{"a": "line\nend"}', {"a": "line\nend"}),
        ('[{"a": 1}]', {"a": 1}),
        ("{}", {}),
    ],
)
def test_the_first_object_is_found(content: str, found: dict[str, Any]) -> None:
    """Past thoughts, fences, words, and braces that begin no object."""
    assert object_in(content) == found


@pytest.mark.parametrize(
    "content",
    ["", "No.", "[1, 2]", '"{"', "null", '{"a": 1', "{'a': 1}", '<think>{"a": 1}', '<think>{"a": 1}</think>No.'],
)
def test_a_reply_without_an_object_has_none(content: str) -> None:
    """Neither another value, nor half an object, nor one that was only thought of."""
    assert object_in(content) is None


@pytest.mark.parametrize(
    "content",
    ['{"a":' * 200_000, "{" * 1_000_000, '{"a":' + "[" * 500_000 + "]" * 500_000 + "}", '{"a": ' + "9" * 10_000 + "}"],
)
def test_a_hostile_reply_has_none(content: str) -> None:
    """Neither depth nor length nor a number beyond reading does harm."""
    assert object_in(content) is None


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    """It could be neither stored nor sent; a whole pair is one character."""
    assert object_in('{"a\\ud800": "\\ud83d\\ude00 \\ud83d"}') == {"a?": "😀 ?"}
