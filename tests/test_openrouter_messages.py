"""rag.openrouter.messages: a dialogue laid out for a chat model, and for its provider's cache."""

import base64

import pytest

from rag.domain import Image, Turn
from rag.openrouter.messages import Message, estimated_tokens, messages

PICTURE = Image("image/png", b"\x89PNG")
SEEN = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PICTURE.data).decode()}"}}
MARK = {"cache_control": {"type": "ephemeral"}}
MARKED = "anthropic/claude"


def text(words: str) -> Message:
    return {"type": "text", "text": words}


def marks(laid_out: list[Message]) -> list[int]:
    """The messages with a mark."""
    return [
        index for index, message in enumerate(laid_out) if any("cache_control" in part for part in message["content"])
    ]


def test_a_turn_is_plain_text() -> None:
    """Which every server knows."""
    assert messages([Turn("assistant", "Twelve.")], "m", False) == [{"role": "assistant", "content": "Twelve."}]


def test_what_is_stable_comes_first() -> None:
    """A blank line between it and what follows."""
    assert messages([Turn("user", "What?", stable="Sources")], "m", False)[0]["content"] == "Sources\n\nWhat?"


def test_what_is_stable_may_be_all() -> None:
    """Without a blank line after it."""
    assert messages([Turn("user", "", stable="Sources")], "m", False)[0]["content"] == "Sources"


@pytest.mark.parametrize(
    "model", ["anthropic/claude", "~anthropic/claude-sonnet-latest", "qwen/qwen3-max", "qwen/qwen-plus:free"]
)
def test_a_provider_that_wants_it_is_told_what_to_cache(model: str) -> None:
    """The stable text is a part of its own, marked."""
    content = messages([Turn("user", "What?", stable="Sources")], model, False)[0]["content"]
    assert content == [text("Sources") | MARK, text("What?")]


@pytest.mark.parametrize("model", ["openai/gpt", "~openai/gpt-latest", "qwen/qwen3-8b", "my/anthropic/claude"])
def test_other_providers_find_it_out_themselves(model: str) -> None:
    """A mark might be refused, and plain text is what all servers know."""
    assert messages([Turn("user", "What?", stable="Sources")], model, False)[0]["content"] == "Sources\n\nWhat?"


def test_what_is_not_repeated_is_not_marked() -> None:
    """Writing to the cache costs more than not to; a mark covers the system's rules before it."""
    laid_out = messages([Turn("system", "Rules"), Turn("user", "What?")], MARKED, False)
    assert [message["content"] for message in laid_out] == ["Rules", "What?"]


def test_at_most_four_marks_are_set() -> None:
    """The provider refuses more; the last ones reach furthest."""
    assert marks(messages([Turn("user", "What?", stable="Sources")] * 6, MARKED, False)) == [2, 3, 4, 5]


@pytest.mark.parametrize("model", ["m", MARKED])
def test_pictures_stand_between_the_stable_text_and_the_rest(model: str) -> None:
    """As data, never as an address."""
    content = messages([Turn("user", "What?", stable="Sources", images=(PICTURE, PICTURE))], model, True)[0]["content"]
    first = text("Sources") | (MARK if model == MARKED else {})
    assert content == [first, SEEN, SEEN, text("What?")]


def test_an_empty_text_is_no_part() -> None:
    """It would be refused."""
    assert messages([Turn("user", "What?", images=(PICTURE,))], "m", True)[0]["content"] == [SEEN, text("What?")]


def test_a_model_that_does_not_see_gets_no_pictures() -> None:
    """The text alone."""
    assert messages([Turn("user", "What?", images=(PICTURE,))], "m", False)[0]["content"] == "What?"


def test_tokens_are_estimated_from_bytes_and_pictures() -> None:
    """Four bytes of UTF-8 a token, a thousand tokens a picture that is sent."""
    turns = [Turn("system", "a" * 20), Turn("user", "é" * 10, stable="€" * 4, images=(PICTURE, PICTURE))]
    assert estimated_tokens(turns, True) == (20 + 20 + 12) // 4 + 2000
    assert estimated_tokens(turns, False) == 13
