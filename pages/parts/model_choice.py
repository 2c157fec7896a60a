"""Which model does what: where it runs, what else there is, what that costs, and changing it."""

from collections.abc import Mapping
from datetime import datetime

import streamlit as st

from pages.parts import embedding_change, failures, keys, prices, stages
from pages.parts.untrusted import literal
from pages.parts.words import count, day
from rag import services
from rag.domain import ModelInfo
from rag.errors import InvalidRequest, ProviderError
from rag.preferences import MOST_FALLBACKS
from rag.settings import Stage

_ARRIVES_EVERY = 2.0
_PREFERENCE: Mapping[Stage, str] = {"chat": "chat_model", "embeddings": "embedding_model", "rerank": "rerank_model"}
_WORK: Mapping[Stage, str] = {
    "chat": "Writes the answer from the passages that were found.",
    "embeddings": "Turns passages and questions into vectors, so that meaning is found and not words alone.",
    "rerank": "Reads each candidate beside the question, and decides what is relevant.",
}
_LOCAL: Mapping[Stage, str] = {
    "chat": "Sentences are picked from your documents, word for word.",
    "embeddings": "A small model that comes with Footnote knows words and their meaning.",
    "rerank": "A small model that comes with Footnote judges what is relevant.",
}


# ---------------------------------------------------------------- changing


@failures.acting
def _choose(stage: Stage) -> None:
    name = st.session_state[f"model-{stage}"]
    _change(stage, _meant(stage, name) if name else None)


@failures.acting
def _reset(stage: Stage) -> None:
    _change(stage, None)


def _change(stage: Stage, model: str | None) -> None:
    """Use another model from now on, or None for the one the server was started with."""
    choice = services.get().choice
    if stage == "embeddings":
        embedding_change.begin(model, None)  # what another model allows is not known
    else:
        choice.change(**{_PREFERENCE[stage]: model})


@failures.acting
def _choose_fallbacks() -> None:
    choice = services.get().choice
    wanted = tuple(_meant("chat", name) for name in st.session_state["fallbacks"])
    choice.change(fallback_models=wanted)


def _meant(stage: Stage, typed: str) -> str:
    """The name of the model that was chosen or typed. Raises InvalidRequest when it could be several.

    Enter takes what was typed, also where it was meant to search the list. Where all names have a maker
    ("maker/model"), words without one are such a search.
    """
    typed = typed.strip()
    offered = services.get().choice.offered(stage)
    if "/" in typed or not all("/" in model.id for model in offered) or not offered:
        return typed
    words = typed.casefold().split()
    found = [model.id for model in offered if all(word in f"{model.name} {model.id}".casefold() for word in words)]
    if len(found) != 1:
        raise InvalidRequest(
            f"“{typed}” is the whole name of no model. Choose one from the list, or type a name like “maker/model”."
        )
    return found[0]


# ---------------------------------------------------------------- lists


@st.cache_data(ttl=600, max_entries=200, show_spinner=False)
def _providers(host: str, model: str, _stage: Stage) -> list[tuple[str, str, str, str]]:
    return [
        (one.name, one.slug, prices.of(one.price), prices.tokens(one.context) if one.context else "")
        for one in services.get().choice.providers(_stage, model)
    ]


def provider_rows(stage: Stage, model: str) -> list[tuple[str, str, str, str]]:
    """Name, short name, price and longest input of each provider of a model. Asks the server; raises ProviderError."""
    info = services.get().choice.info(stage, model)
    with st.spinner("Asking the server"):
        return _providers(services.get().choice.client(stage).host, (info and info.alias_of) or model, stage)


def _shown_providers(stage: Stage, model: str) -> None:
    try:
        rows = provider_rows(stage, model)
    except ProviderError as error:
        failures.show(str(error), error.failure)
        return
    if not rows:
        st.caption("The server does not tell who runs this model.")
        return
    table = "\n".join(
        f"| {literal(name)} | {literal(slug)} | {literal(price) or 'not known'} | {literal(context) or '–'} |"
        for name, slug, price, context in rows
    )
    st.markdown(f"| Provider | Short name | Price | Longest input |\n|---|---|---|---|\n{table}")


def _toggle(name: str, value: str) -> None:
    st.session_state[name] = "" if st.session_state.get(name) == value else value


def _fetched_at(stage: Stage) -> datetime | None:
    built = services.get()
    return built.catalogue.fetched_at(built.settings.server(stage)[0], stage)


def _fetched(stage: Stage) -> str:
    built, moment = services.get(), _fetched_at(stage)
    if moment is None:
        return "The list of models has not been loaded yet. Any name can be typed."
    offered = len(built.choice.offered(stage))
    if offered == 0:
        return "This server has no list of models. Any name can be typed."
    return f"{count(offered, 'model')} listed on {day(moment)}, {moment:%H:%M} UTC. Any other name can be typed."


@failures.drawing
def _arriving(stage: Stage) -> None:
    """Nothing to see; the list is being fetched in the background, and the page is drawn anew when it is there."""
    if _fetched_at(stage) is not None:
        st.rerun()


def _refresh(stage: Stage) -> None:
    try:
        with st.spinner("Asking the server"):
            services.get().choice.refresh(stage)
    except ProviderError as error:
        failures.show(str(error), error.failure)
        st.caption("The names in use go on working, and any other can be typed.")
    else:
        st.rerun()


def _actions(stage: Stage, model: str) -> None:
    choice = services.get().choice
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        shows = st.session_state.get(f"providers-of-{stage}") == model
        st.button(
            "Hide providers" if shows else "Providers",
            key=f"providers-{stage}",
            icon=":material/lan:",
            type="tertiary",
            on_click=_toggle,
            args=(f"providers-of-{stage}", model),
        )
        refreshes = st.button("Refresh the list", key=f"refresh-{stage}", icon=":material/refresh:", type="tertiary")
        if stage == "embeddings":
            embedding_change.buttons()
        if getattr(choice.preferences, _PREFERENCE[stage]) is not None:
            st.button(
                "Back to what the server was started with",
                key=f"reset-{stage}",
                icon=":material/undo:",
                type="tertiary",
                on_click=_reset,
                args=(stage,),
            )
    if refreshes:
        _refresh(stage)
    if shows:
        _shown_providers(stage, model)


# ---------------------------------------------------------------- one stage


def _labels(stage: Stage, *names: str) -> dict[str, str]:
    """What each model is called in a list to choose from: these names first, then all on offer."""
    offered = {model.id: _label(model) for model in services.get().choice.offered(stage)}
    return {name: offered.get(name, name) for name in names} | offered


def _label(model: ModelInfo) -> str:
    named = model.id if model.name == model.id else f"{model.name} ({model.id})"
    return " · ".join(part for part in (named, prices.brief(model)) if part)


def _what_is_known(stage: Stage, model: str) -> str:
    """Markdown: price, length and pictures of the model in use; "" where there is no list to know them from."""
    choice = services.get().choice
    info = choice.info(stage, model)
    if not choice.offered(stage):
        return ""
    if info is None:
        return "Not in the server's list: its price and the longest text it takes are not known."
    said = literal(prices.facts(info))
    if not prices.of(info.price):
        said = f"Price not known · {said}" if said else "Price not known"
    return f"{said} · stands for {literal(info.alias_of)} now" if info.alias_of else said


def _served(stage: Stage) -> None:
    choice = services.get().choice
    model = choice.model_of(stage)
    labels = _labels(stage, model)
    key = f"model-{stage}"
    st.session_state[key] = model  # the widget's own memory may be of one that was not taken
    st.selectbox(
        "Model, and its price per million tokens",
        list(labels),
        format_func=lambda name: labels.get(name, name),
        key=key,
        accept_new_options=True,
        on_change=_choose,
        args=(stage,),
    )
    lines = [_what_is_known(stage, model), _fetched(stage)]
    if stage == "embeddings":
        lines[1:1] = embedding_change.standing()
    st.caption("  \n".join(line for line in lines if line))
    if _fetched_at(stage) is None:
        st.fragment(_arriving, run_every=_ARRIVES_EVERY)(stage)
    _actions(stage, model)
    if stage == "chat":
        _fallbacks()


def _fallbacks() -> None:
    taken = services.get().preferences.fallback_models
    labels = _labels("chat", *taken)
    st.session_state["fallbacks"] = list(taken)
    st.multiselect(
        "If it cannot answer, ask these",
        list(labels),
        format_func=lambda name: labels.get(name, name),
        key="fallbacks",
        max_selections=MOST_FALLBACKS,
        accept_new_options=True,
        placeholder="Nobody: the failure is shown",
        help="In this order, when the first is down, overloaded or refuses. The one that answers is the one that is "
        "paid, and is named under the answer. Only OpenRouter does this.",
        on_change=_choose_fallbacks,
    )


def _stage(stage: Stage) -> None:
    with st.container(border=True, key=f"stage-{stage}", gap="small"):
        with st.container(gap=None):
            st.markdown(f"**{stages.NAMES[stage]}** :gray-badge[{literal(stages.where(stage))}]")
            st.caption(_WORK[stage])
        if stages.is_served(stage):
            _served(stage)
        elif stages.where(stage) == "off":
            st.markdown("No reranking: passages stay in the order in which they were found.")
        elif stage == "embeddings" and not services.get().models.embeddings:
            st.markdown("Only words are searched.")
        else:
            st.markdown(_LOCAL[stage])


def draw() -> None:
    models = services.get().models
    if models.local:
        keys.invitation()
    else:
        st.caption("Changes act at once, for everybody on this server.")
    for notice in models.notices:
        st.caption(f":material/info: {literal(notice)}")
    for stage in stages.STAGES:
        _stage(stage)
    embedding_change.dialog()
