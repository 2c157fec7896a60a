"""rag.openrouter.routing: preferences checked before they are sent, and sent as the contract wants them."""

import dataclasses
from typing import Any

import pytest

from rag.errors import InvalidRequest
from rag.openrouter.routing import ANY_PROVIDER, Routing, as_provider, checked
from tests.openrouter_contract import check_body

ALL = Routing(
    order=("azure", "deepinfra/turbo"),
    only=("azure", "deepinfra", "together"),
    ignore=("novita",),
    allow_fallbacks=False,
    require_parameters=True,
    data_collection="deny",
    zdr=True,
    sort="throughput",
    max_prompt_price=0.25,
    max_completion_price=2.0,
    max_request_price=0.0,
    max_image_price=0.0000001,
)


def test_what_is_not_set_is_not_sent() -> None:
    """An empty object would be refused by some servers, so there is none."""
    assert as_provider(ANY_PROVIDER) == {}


def test_everything_is_sent_as_the_contract_has_it() -> None:
    """Prices as strings without an exponent; the strict contract accepts the whole of it, for each kind of request."""
    provider = as_provider(checked(ALL))
    assert provider == {
        "order": ["azure", "deepinfra/turbo"],
        "only": ["azure", "deepinfra", "together"],
        "ignore": ["novita"],
        "allow_fallbacks": False,
        "require_parameters": True,
        "data_collection": "deny",
        "zdr": True,
        "sort": "throughput",
        "max_price": {"prompt": "0.25", "completion": "2", "request": "0", "image": "0.0000001"},
    }
    check_body("/embeddings", {"model": "m", "input": ["x"], "provider": provider})
    check_body("/rerank", {"model": "m", "query": "q", "documents": ["x"], "provider": provider})
    check_body("/chat/completions", {"messages": [{"role": "user", "content": "x"}], "provider": provider})


def test_a_request_can_add_to_the_preferences() -> None:
    """What it needs stands above what is preferred."""
    routing = Routing(require_parameters=False, zdr=True)
    assert as_provider(routing, require_parameters=True) == {"require_parameters": True, "zdr": True}


def test_preferences_that_can_be_sent_stay_as_they_are() -> None:
    """All of them, and none."""
    assert checked(ALL) is ALL
    assert checked(ANY_PROVIDER) is ANY_PROVIDER


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": ("Azure",)}, "“Azure” is no provider's short name"),
        ({"only": ("",)}, "is no provider's short name"),
        ({"ignore": ("a b",)}, "is no provider's short name"),
        ({"ignore": ("x" * 101,)}, "is no provider's short name"),
        ({"ignore": tuple(f"p{n}" for n in range(51))}, "At most 50 providers"),
        ({"order": ("azure", "azure")}, "“azure” is named twice"),
        ({"ignore": ("azure",)}, "“azure” is both wanted and ignored"),
        ({"ignore": ("deepinfra",)}, "“deepinfra/turbo” is both wanted and ignored"),
        ({"order": ("groq",)}, "“groq” is preferred, but not among the only providers allowed"),
        ({"max_prompt_price": -0.01}, "A highest price must be"),
        ({"max_completion_price": float("nan")}, "A highest price must be"),
        ({"max_request_price": float("inf")}, "A highest price must be"),
        ({"max_image_price": 1e6}, "A highest price must be"),
    ],
)
def test_what_cannot_be_sent_is_said(changes: dict[str, Any], words: str) -> None:
    """Before it reaches a server that would refuse it."""
    with pytest.raises(InvalidRequest, match=words):
        checked(dataclasses.replace(ALL, **changes))


def test_one_offer_of_a_provider_may_be_ignored() -> None:
    """While another of its offers is wanted."""
    checked(Routing(order=("deepinfra/turbo",), only=("deepinfra",), ignore=("deepinfra/fp4",)))
