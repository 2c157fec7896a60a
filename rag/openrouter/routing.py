"""Provider routing: which of a model's providers may serve a request, and at what price. Pure.

The members are those of OpenRouter's `provider` object, which is closed: an unknown member is refused.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from rag.errors import InvalidRequest

_SLUG = re.compile(r"[a-z0-9][a-z0-9._/-]{0,99}")
_MOST_PROVIDERS = 50
_HIGHEST_PRICE = 1_000_000

Sort = Literal["price", "throughput", "latency"]


@dataclass(frozen=True, slots=True)
class Routing:
    """Preferences about providers; None and () leave a choice to the server.

    `order`, `only` and `ignore` are provider slugs ("deepinfra", or one of its offers: "deepinfra/turbo"). Prices are
    the highest accepted, in US dollars: per million tokens of the prompt and of the completion, per request and per
    image.
    """

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    sort: Sort | None = None
    max_prompt_price: float | None = None
    max_completion_price: float | None = None
    max_request_price: float | None = None
    max_image_price: float | None = None


ANY_PROVIDER = Routing()
"""No preferences: the server chooses."""


def checked(routing: Routing) -> Routing:
    """The same routing when it can be sent. Raises InvalidRequest with what is wrong with it."""
    for name in ("order", "only", "ignore"):
        slugs = getattr(routing, name)
        if len(slugs) > _MOST_PROVIDERS:
            raise InvalidRequest(f"At most {_MOST_PROVIDERS} providers can be named for “{name}”.")
        for slug in slugs:
            if not _SLUG.fullmatch(slug):
                raise InvalidRequest(
                    f"“{slug}” is no provider's short name: use lower-case letters, digits and signs, like “azure”."
                )
        if twice := next((slug for slug in slugs if slugs.count(slug) > 1), None):
            raise InvalidRequest(f"“{twice}” is named twice for “{name}”. Name it once.")
    for slug in (*routing.order, *routing.only):
        if _is_among(slug, routing.ignore):
            raise InvalidRequest(f"“{slug}” is both wanted and ignored. Remove it from one of the lists.")
    for slug in routing.order if routing.only else ():
        if not _is_among(slug, routing.only):
            raise InvalidRequest(f"“{slug}” is preferred, but not among the only providers allowed. Add it there too.")
    for price in _highest_prices(routing).values():
        if price is not None and not 0 <= price < _HIGHEST_PRICE:
            raise InvalidRequest("A highest price must be zero or more US dollars.")
    return routing


def as_provider(routing: Routing, **members: Any) -> dict[str, Any]:
    """The `provider` object of a request without what is not set, `members` on top of it; {} when nothing is."""
    provider: dict[str, Any] = {
        name: list(slugs) for name in ("order", "only", "ignore") if (slugs := getattr(routing, name))
    }
    for name in ("allow_fallbacks", "require_parameters", "data_collection", "zdr", "sort"):
        if (value := getattr(routing, name)) is not None:
            provider[name] = value
    prices = {name: _decimal(price) for name, price in _highest_prices(routing).items() if price is not None}
    if prices:
        provider["max_price"] = prices
    return provider | members


def _is_among(slug: str, slugs: tuple[str, ...]) -> bool:
    """Whether a provider is named, or all of its offers are."""
    return slug in slugs or slug.partition("/")[0] in slugs


def _highest_prices(routing: Routing) -> dict[str, float | None]:
    return {
        "prompt": routing.max_prompt_price,
        "completion": routing.max_completion_price,
        "request": routing.max_request_price,
        "image": routing.max_image_price,
    }


def _decimal(price: float) -> str:
    """The price as the schema wants it, a string without an exponent (though OpenRouter's guide shows numbers)."""
    return f"{price:.10f}".rstrip("0").rstrip(".")
