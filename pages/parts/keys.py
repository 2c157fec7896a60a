"""Keys of the models' servers: where each comes from, typing one, and whether it works. None is ever shown."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import streamlit as st

from pages.parts import embedding_change, failures, stages
from pages.parts.untrusted import literal
from rag import services
from rag.errors import ProviderError
from rag.openrouter.models import KeyInfo
from rag.settings import Stage
from rag.usage import dollars

_PART = "Keys"
_ALL = "all"
_LONGEST_KEY = 500
_STATES = {
    "environment": "Key from the environment, `.env` or Streamlit's secrets",
    "typed": "Key typed here, until the server restarts",
    "none": "No key",
}


# ---------------------------------------------------------------- without any


def _enter() -> None:
    st.session_state["settings_tab"] = _PART


def invitation() -> None:
    """What a key would add, where there is none."""
    with st.container(border=True, key="invitation"):
        st.markdown("**Have a language model write the answers**")
        st.markdown(
            "Footnote works as it is: on this machine, without a key, with sentences picked from your documents. "
            "A key for [OpenRouter](https://openrouter.ai) adds answers in plain words, search by meaning in any "
            "language, and sharper ranking. Passages of your documents are then sent there."
        )
        st.button("Add a key", key="enter-keys", icon=":material/key:", type="primary", on_click=_enter)


# ---------------------------------------------------------------- typing


@failures.acting
def _take(field: str) -> None:
    """Hand the key over and leave no trace of it in the session: the next field has another name."""
    key = str(st.session_state.pop(field, "") or "").strip()
    st.session_state["key-fields"] = st.session_state.get("key-fields", 0) + 1
    wanted = st.session_state.get("key-for", _ALL)
    if key:
        services.get().choice.type_key(None if wanted == _ALL else wanted, key)
        st.session_state["key-taken"] = True


@failures.acting
def _forget() -> None:
    for stage in (None, *stages.STAGES):
        services.get().choice.type_key(stage, "")


def _form(has_key: bool) -> None:
    choice = services.get().choice
    host = urlsplit(str(services.get().settings.openrouter_base_url)).netloc
    hosts = {_ALL: host} | {stage: choice.client(stage).host for stage in stages.STAGES}
    names = {_ALL: f"All at {host}", **stages.NAMES}
    st.subheader("Type a key" if has_key else "Add a key", anchor=False)
    wanted = _ALL
    if has_key:
        wanted = st.segmented_control(
            "Used for", list(names), format_func=names.__getitem__, key="key-for", default=_ALL, required=True
        )
    field = f"key-{st.session_state.get('key-fields', 0)}"
    with st.form("key", border=False):
        st.text_input(
            "Key",
            type="password",
            key=field,
            max_chars=_LONGEST_KEY,
            autocomplete="off",
            placeholder="sk-or-…",
            label_visibility="collapsed",
        )
        st.form_submit_button("Use this key", type="primary", on_click=_take, args=(field,))
    st.caption(
        f"It is sent to {literal(hosts[wanted])} alone and serves everybody on this server until the server restarts. "
        "It is kept in memory only, and cannot be read back. To keep one for good, put `OPENROUTER_API_KEY=…` into "
        "the environment or a file `.env`."
    )


# ---------------------------------------------------------------- those in use


def _standing(info: KeyInfo) -> str:
    """Markdown: what the server says about a key."""
    said = ["The key works."]
    if info.label:
        said.append(f"It is called “{literal(info.label)}”.")
    if info.limit is None:
        said.append("It has no spending limit of its own.")
    elif info.limit_remaining is not None:
        left = literal(f"{dollars(max(info.limit_remaining, 0))} of {dollars(info.limit)}")
        reset = f" ({literal(info.limit_reset)} limit)" if info.limit_reset else ""
        said.append(f"{left} is left{reset}.")
    if info.usage_monthly is not None:
        said.append(f"Spent this month: {literal(dollars(info.usage_monthly))}.")
    if info.is_free_tier:
        said.append("The account has not bought credit yet: only free models answer.")
    return " ".join(said)


def _test(stage: Stage) -> None:
    try:
        with st.spinner("Asking the server"):
            info = services.get().choice.key_info(stage)
    except ProviderError as error:
        failures.show(str(error), error.failure)
    else:
        st.success(_standing(info), icon=":material/check:")


def _together() -> list[list[Stage]]:
    """Stages that have their server and their key in common."""
    states, settings = services.get().choice.key_states(), services.get().settings
    groups: dict[object, list[Stage]] = {}
    for stage in stages.STAGES:
        used = (settings.server(stage), states[stage]) if stages.is_served(stage) else stages.where(stage)
        groups.setdefault(used, []).append(stage)
    return list(groups.values())


def _key_of(group: Sequence[Stage]) -> None:
    stage = group[0]
    names = ", ".join(stages.NAMES[one] for one in group)
    with st.container(key=f"key-of-{stage}", border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            with st.container(gap=None, width="content"):
                st.markdown(f"**{names}** :gray-badge[{literal(stages.where(stage))}]")
                served = stages.is_served(stage)
                st.caption(_STATES[services.get().choice.key_states()[stage]] if served else "Needs no key")
            asked = served and st.button("Test", key=f"test-{stage}", icon=":material/network_check:", type="tertiary")
        if asked:
            _test(stage)


def _taken() -> None:
    """A key has just been typed: what is new with it."""
    choice = services.get().choice
    st.success("The key is in use from now on.", icon=":material/check:")
    if embedding_change.behind():
        st.caption(
            "Collections that are there already stay as they are and can be asked. To search them with the new "
            "embedding model too, move them to it under Models."
        )
    try:
        with st.spinner("Loading the lists of models"):
            for stage in stages.STAGES:
                if choice.is_stale(stage):
                    choice.refresh(stage)
    except ProviderError as error:
        failures.show(str(error), error.failure)


def draw() -> None:
    states = set(services.get().choice.key_states().values())
    has_key = states != {"none"} or not services.get().models.local
    if st.session_state.pop("key-taken", False):
        _taken()
    if not has_key:
        st.markdown(
            "No key is needed. With one, a language model writes the answers, meaning is found in any language, and "
            "passages are ranked more sharply. Get one at [openrouter.ai/keys](https://openrouter.ai/keys)."
        )
    else:
        for group in _together():
            _key_of(group)
        if "typed" in states:
            st.button("Forget typed keys", key="forget", icon=":material/key_off:", on_click=_forget)
        st.space("small")
    _form(has_key)
