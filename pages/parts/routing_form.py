"""Who may run a model, and at what price: OpenRouter's provider preferences, one set for each kind of work."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from pages.parts import failures, model_choice, stages
from pages.parts.untrusted import literal
from rag import services
from rag.errors import InvalidRequest, ProviderError
from rag.openrouter.routing import Routing, as_provider, checked
from rag.settings import Stage

_PREFERENCE: Mapping[Stage, str] = {
    "chat": "chat_routing",
    "embeddings": "embedding_routing",
    "rerank": "rerank_routing",
}


@dataclass(frozen=True)
class _Choice:
    """One of a few: what each value is called."""

    name: str
    label: str
    help: str
    called: Mapping[Any, str]


_LISTS = (
    ("order", "Ask these first", "Providers in this order; others only if none of them can. Order matters."),
    ("only", "Ask only these", "No other provider sees a request. If none of them runs the model, nothing answers."),
    ("ignore", "Never ask these", "They are skipped. If nobody else runs the model, nothing answers."),
)
_YES_NO: Mapping[Any, str] = {True: "Yes", False: "No"}
_CHOICES = (
    _Choice(
        "allow_fallbacks",
        "Others may step in",
        "When the first provider fails, the next is asked. That is usual; with “No” its failure is final.",
        _YES_NO,
    ),
    _Choice(
        "data_collection",
        "Providers that keep data",
        "“Not allowed” leaves only providers that neither keep requests nor train on them. Few may be left.",
        {"allow": "Allowed", "deny": "Not allowed"},
    ),
    _Choice(
        "zdr",
        "Zero data retention",
        "Only providers that keep nothing at all, not even for a moment after the answer. Very few may be left.",
        {True: "Required", False: "Not required"},
    ),
    _Choice(
        "require_parameters",
        "Must know every setting",
        "Only providers that understand all that is sent. Others ignore what they do not know, such as a temperature.",
        _YES_NO,
    ),
    _Choice(
        "sort",
        "Prefer",
        "Which provider comes first. Usually requests are spread, the cheap and reliable ones most often.",
        {
            None: "As usual",
            "price": "The cheapest",
            "throughput": "The fastest writer",
            "latency": "The first to begin",
        },
    ),
)
_PROMPT = ("max_prompt_price", "Text read, per million tokens")
_COMPLETION = ("max_completion_price", "Text written, per million tokens")
_REQUEST = ("max_request_price", "Each request")
_IMAGE = ("max_image_price", "Each picture")
_PRICES: Mapping[Stage, Sequence[tuple[str, str]]] = {
    "chat": (_PROMPT, _COMPLETION, _REQUEST, _IMAGE),
    "embeddings": (_PROMPT, _REQUEST, _IMAGE),
    "rerank": (_PROMPT, _REQUEST, _IMAGE),
}


def _saved(stage: Stage) -> Routing:
    preferences = services.get().preferences
    return {
        "chat": preferences.chat_routing,
        "embeddings": preferences.embedding_routing,
        "rerank": preferences.rerank_routing,
    }[stage]


def _key(stage: Stage, name: str) -> str:
    return f"routing-{stage}-{name}"


def _names(stage: Stage) -> list[str]:
    """The members of `Routing` that this form has."""
    return [name for name, _, _ in _LISTS] + [one.name for one in _CHOICES] + [name for name, _ in _PRICES[stage]]


def _fill(stage: Stage, routing: Routing) -> None:
    for name in _names(stage):
        value = getattr(routing, name)
        st.session_state[_key(stage, name)] = list(value) if isinstance(value, tuple) else value


def _wanted(stage: Stage) -> Routing:
    """What the form says now."""
    values = {name: st.session_state[_key(stage, name)] for name in _names(stage)}
    for name, _, _ in _LISTS:
        values[name] = tuple(dict.fromkeys(slug.strip().lower() for slug in values[name] if slug.strip()))
    return replace(_saved(stage), **values)


# ---------------------------------------------------------------- changing


@failures.acting
def _save(stage: Stage) -> None:
    choice = services.get().choice
    choice.change(**{_PREFERENCE[stage]: _wanted(stage)})
    st.toast("Saved. It counts from the next request on.", icon=":material/check:")


def _discard(stage: Stage) -> None:
    _fill(stage, _saved(stage))


def _clear(stage: Stage) -> None:
    _fill(stage, Routing())


# ---------------------------------------------------------------- drawing


def _suggestions(stage: Stage) -> list[str]:
    """The providers of the model in use, once they were asked for."""
    choice = services.get().choice
    model = choice.model_of(stage)
    asked = st.session_state.get("suggesting")
    if asked != model and st.button(
        f"Suggest the providers of {literal(model)}", key="suggest", icon=":material/search:", type="tertiary"
    ):
        asked = st.session_state["suggesting"] = model
        st.rerun()
    if asked != model:
        return []
    try:
        return [slug for _, slug, _, _ in model_choice.provider_rows(stage, model) if slug]
    except ProviderError as error:
        failures.show(str(error), error.failure)
        return []


def _lists(stage: Stage) -> None:
    known = _suggestions(stage)
    for name, label, sentence in _LISTS:
        key = _key(stage, name)
        st.multiselect(
            label,
            list(dict.fromkeys([*known, *st.session_state[key]])),
            key=key,
            accept_new_options=True,
            placeholder="Any" if name != "ignore" else "None",
            help=sentence,
        )
    st.caption("Short names, like `azure` or `deepinfra/fp8`. Type any and press Enter.")


def _choices(stage: Stage) -> None:
    for row in (_CHOICES[:3], _CHOICES[3:]):
        for column, one in zip(st.columns(3, gap="small"), row, strict=False):
            with column:
                st.selectbox(
                    one.label,
                    list(one.called),
                    index=None,
                    placeholder="As usual",
                    format_func=one.called.__getitem__,
                    key=_key(stage, one.name),
                    help=one.help,
                )


def _prices(stage: Stage) -> None:
    st.markdown("**Highest prices**, in US dollars")
    prices = _PRICES[stage]
    for first in range(0, len(prices), 2):
        for column, (name, label) in zip(st.columns(2, gap="small"), prices[first : first + 2], strict=False):
            with column:
                st.number_input(
                    label, min_value=0.0, value=None, step=0.1, format="%.4f", key=_key(stage, name), placeholder="any"
                )
    st.caption("Providers that cost more are not asked. If all do, the answer is “no provider”.")


def _ends(stage: Stage) -> None:
    """What will be sent, and the buttons that save it or leave it."""
    wanted, saved = _wanted(stage), _saved(stage)
    problem = ""
    try:
        sent = as_provider(checked(wanted))
    except InvalidRequest as error:
        problem = str(error)
    if problem:
        failures.show(problem)
    elif sent:
        st.caption("Sent with each request:")
        st.code(json.dumps({"provider": sent}, indent=2), language="json")
    else:
        st.caption("Nothing is sent: the server chooses.")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Save",
            key="save-routing",
            type="primary",
            disabled=wanted == saved or bool(problem),
            on_click=_save,
            args=(stage,),
        )
        if wanted != saved:
            st.button("Discard changes", key="discard-routing", type="tertiary", on_click=_discard, args=(stage,))
        if wanted != Routing():
            st.button("Empty the form", key="clear-routing", type="tertiary", on_click=_clear, args=(stage,))


def draw() -> None:
    served = [stage for stage in stages.STAGES if stages.is_served(stage)]
    st.caption(
        "The same model is often run by several providers, at different prices and with different rules. Usually "
        "OpenRouter chooses. The tighter this is, the more often no provider is left: answers then fail with that "
        "reason."
    )
    stage: Stage = served[0]
    if len(served) > 1:
        stage = st.segmented_control(
            "For", served, format_func=stages.NAMES.__getitem__, key="routing-of", default=stage, required=True
        )
    if not stages.is_openrouter(stage):
        st.info(
            f"This is done by {literal(stages.where(stage))}. Only OpenRouter has providers to choose from; other "
            "servers may ignore what is set here, or refuse it."
        )
    if any(_key(stage, name) not in st.session_state for name in _names(stage)):
        _fill(stage, _saved(stage))
    with st.container(key=f"routing-{stage}", gap="small"):
        _lists(stage)
        _choices(stage)
        _prices(stage)
        _ends(stage)
