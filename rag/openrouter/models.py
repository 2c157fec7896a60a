"""What a models' server offers: its models, who runs each of them, and what a key may spend.

Read leniently: every member of a reply may be missing, null or nonsense. Compatible servers list no more than names,
and some have no list at all.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from rag.domain import ModelInfo, ModelKind, Price
from rag.errors import BadReply, ProviderError
from rag.interfaces import Errand
from rag.openrouter.client import Client
from rag.openrouter.failures import Purpose

_MODALITIES: Mapping[ModelKind, str] = {"embeddings": "embeddings", "rerank": "rerank", "chat": "text"}
_MOST_PAGES = 20
_MOST_MODELS = 5_000
_MOST_PROVIDERS = 200
_MOST_PARAMETERS = 64
_LONGEST = 200
# What compatible servers answer where they have no such list; one says 200 with an error inside.
_NO_LIST = {404, 405, 501}
# Without a name of its own a key is labelled with its first and last characters.
_MASKED_KEY = re.compile(r"sk-|\.\.\.|…|\*\*")
# No token costs as much as this; a reranker's price that does is one per search.
_DEAREST_TOKEN = 0.0001

_LIST = Purpose("model list", "its models", "OPENROUTER_BASE_URL")


@dataclass(frozen=True, slots=True)
class Provider:
    """Who runs a model; `slug` names it in `Routing`, `context` is in tokens (None where not told)."""

    name: str
    slug: str
    price: Price
    context: int | None


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What a server says about a key: amounts in US dollars, `limit_reset` a word like "monthly".

    None where it does not say; no limit is None too. `label` is "" unless somebody gave the key a name: no part of a
    key is kept.
    """

    label: str
    limit: float | None
    limit_remaining: float | None
    limit_reset: str | None
    usage: float | None
    usage_monthly: float | None
    is_free_tier: bool | None


def offered(client: Client, kind: ModelKind, errand: Errand) -> tuple[ModelInfo, ...]:
    """The models a server offers for one kind of work, in its order; () where it has no list.

    Where a server does not tell what a model is for, the model is offered for everything. Raises ProviderError,
    Stopped.
    """
    if kind == "embeddings" and (found := _listed(client, kind, "/embeddings/models", {}, errand)):
        return found
    return _listed(client, kind, "/models", {"output_modalities": _MODALITIES[kind]}, errand)


def providers(client: Client, model_id: str, errand: Errand) -> tuple[Provider, ...]:
    """Who runs a model; () where the server does not tell. Raises ProviderError, Stopped."""
    author, _, slug = model_id.partition("/")
    if not (author and slug) or "/" in slug or {author, slug} & {".", ".."}:
        return ()
    path = f"/models/{quote(author, safe='~')}/{quote(slug, safe='~:')}/endpoints"
    try:
        reply = client.get(path, {}, Purpose("provider list", model_id, "its name"), errand, _object)
    except ProviderError as error:
        if error.status in _NO_LIST:
            return ()
        raise
    rows = _objects(_member(reply, "data").get("endpoints"))
    return tuple(provider for row in rows[:_MOST_PROVIDERS] if (provider := _provider(row)) is not None)


def key(client: Client, errand: Errand) -> KeyInfo:
    """What the server says about the key in use. Raises ProviderError (BadReply where it says nothing), Stopped."""
    silent = f"{client.host} does not tell about keys. Ask a question to see whether this one works."
    try:
        reply = client.get("/key", {}, Purpose("key", "this key", "OPENROUTER_BASE_URL"), errand, _object)
    except ProviderError as error:
        if error.status in _NO_LIST:
            raise BadReply(silent, failure=error.failure) from error
        raise
    data = _member(reply, "data")
    if not data:
        raise BadReply(silent, status=200)
    label = _words(data.get("label"))
    free = data.get("is_free_tier")
    return KeyInfo(
        label="" if _MASKED_KEY.search(label) else label,
        limit=_amount(data.get("limit")),
        limit_remaining=_number(data.get("limit_remaining")),
        limit_reset=_words(data.get("limit_reset")) or None,
        usage=_amount(data.get("usage")),
        usage_monthly=_amount(data.get("usage_monthly")),
        is_free_tier=free if isinstance(free, bool) else None,
    )


# ---------------------------------------------------------------- pages of a list


def _listed(
    client: Client, kind: ModelKind, path: str, query: Mapping[str, str], errand: Errand
) -> tuple[ModelInfo, ...]:
    """One list with all its pages; () where the server does not have it."""
    found: dict[str, ModelInfo] = {}
    try:
        for page in _pages(client, path, query, errand):
            for row in _objects(page.get("data")):
                model = _model(row, kind)
                if model is not None and len(found) < _MOST_MODELS:
                    found.setdefault(model.id, model)
    except ProviderError as error:
        if not (error.status in _NO_LIST or (error.status == 200 and path != "/models")):
            raise
    return tuple(found.values())


def _pages(client: Client, path: str, query: Mapping[str, str], errand: Errand) -> Iterator[Mapping[str, Any]]:
    """Each page of a list. Of the address of the next one only the query is used: the key goes nowhere else."""
    asked: list[Mapping[str, str]] = []
    while len(asked) < _MOST_PAGES and query not in asked:
        asked.append(query)
        page = client.get(path, query, _LIST, errand, _object)
        yield page
        following = _member(page, "links").get("next")
        if not isinstance(following, str):
            return
        try:
            query = {**query, **dict(parse_qsl(urlsplit(following).query))}
        except ValueError:  # no address at all
            return


# ---------------------------------------------------------------- reading


def _object(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    return reply


def _member(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _words(value: object) -> str:
    """A line of text without control characters and marks that turn its direction; "" where there is none."""
    if not isinstance(value, str):
        return ""
    printable = "".join(sign if sign.isprintable() else " " for sign in value[: 4 * _LONGEST])
    return " ".join(printable.split())[:_LONGEST]


def _number(value: object) -> float | None:
    """A finite number, also where it is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _amount(value: object) -> float | None:
    """A number of zero or more; a negative price stands for one that varies."""
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _length(*values: object) -> int | None:
    """The first of these that is a number of tokens."""
    return next((value for value in values if type(value) is int and 0 < value < 1_000_000_000), None)


def _model(row: Mapping[str, Any], kind: ModelKind) -> ModelInfo | None:
    """One row of a list; None where it has no usable name or is for something else."""
    model_id = row.get("id")
    if not (isinstance(model_id, str) and 0 < len(model_id) <= _LONGEST):
        return None
    if not model_id.isprintable() or " " in model_id:
        return None
    architecture = _member(row, "architecture")
    makes = _strings(architecture.get("output_modalities"))
    if makes and _MODALITIES[kind] not in makes:
        return None
    takes = _strings(architecture.get("input_modalities")) or _words(architecture.get("modality")).split("->")[0].split(
        "+"
    )
    return ModelInfo(
        id=model_id,
        name=_words(row.get("name")) or model_id,
        kind=kind,
        context=_length(
            row.get("context_length"),
            _member(row, "top_provider").get("context_length"),
            row.get("max_model_len"),  # vLLM
            _member(row, "meta").get("n_ctx"),  # llama.cpp
        ),
        price=_price(_member(row, "pricing"), kind),
        takes_images="image" in takes if takes != [""] else None,
        parameters=tuple(_strings(row.get("supported_parameters"))[:_MOST_PARAMETERS]),
        alias_of=_words(_member(row, "alias_target").get("slug")),
    )


def _price(pricing: Mapping[str, Any], kind: ModelKind | None = None) -> Price:
    prompt, request = _amount(pricing.get("prompt")), _amount(pricing.get("request"))
    if kind == "rerank" and not request and prompt is not None and prompt >= _DEAREST_TOKEN:
        prompt, request = None, prompt
    return Price(
        prompt=prompt,
        completion=_amount(pricing.get("completion")),
        cached=_amount(pricing.get("input_cache_read")),
        request=request,
        image=_amount(pricing.get("image")),
    )


def _provider(row: Mapping[str, Any]) -> Provider | None:
    name = _words(row.get("provider_name")) or _words(row.get("name"))
    if not name:
        return None
    return Provider(
        name=name,
        slug=_words(row.get("tag")),
        price=_price(_member(row, "pricing")),
        context=_length(row.get("context_length"), row.get("max_prompt_tokens")),
    )
