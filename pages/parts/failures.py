"""What went wrong, said once and the same way everywhere: our own sentences as they are, anything else by an id."""

import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ParamSpec

import streamlit as st

from pages.parts.untrusted import literal, marked
from rag.domain import Failure, Remedy
from rag.errors import FootnoteError, ProviderError, incident

logger = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")

SETTINGS_TABS = ("Models", "Keys", "Answers", "Routing", "Usage", "Server")
"""The parts of the settings page that a failure can point to, by the names they have there."""

_SETTINGS = "settings.py"
_MENDED_IN: Mapping[Remedy, str] = {
    "key": "Keys",
    "credit": "Usage",
    "models": "Models",
    "routing": "Routing",
    "server": "Keys",  # where each step's server stands
}
_NAMED = re.compile(rf"\bSettings → ({'|'.join(SETTINGS_TABS)})\b")


def sentence(error: Exception) -> str:
    """What to tell the person. Unexpected errors are logged without their message, which may hold document text."""
    if isinstance(error, FootnoteError):
        return str(error)
    return incident(logger, error, "Drawing a page")


def show(problem: str, failure: Failure | None = None) -> None:
    """The sentence; below it the way to the settings that can mend it, and folded what a model's server said."""
    with st.container(gap="xxsmall"):
        st.error(literal(problem), icon=":material/error:")
        mend(problem, failure)
        details(failure)


def details(failure: Failure | None) -> None:
    """What stands behind a failure, folded; nothing where nothing does."""
    if failure is not None and (behind := _behind(failure)):
        with st.expander("Details", type="compact"):
            st.caption(marked(behind, 0, 0))


def mend(problem: str, failure: Failure | None = None) -> None:
    """A link to the part of the settings where something can be done about it, if there is one."""
    tab = settings_tab(problem, failure)
    if tab is not None:
        st.page_link(_SETTINGS, label=f"Settings → {tab}", icon=":material/tune:", query_params={"tab": tab})


def settings_tab(problem: str, failure: Failure | None = None) -> str | None:
    """The part of the settings that the sentence names, or else the failure's remedy."""
    named = _NAMED.search(problem)
    return named[1] if named else (_MENDED_IN.get(failure.remedy) if failure else None)


def _behind(failure: Failure) -> str:
    """What stands behind the sentence, line by line, as it came."""
    facts = (
        ("Status", str(failure.status or "")),
        ("Provider", failure.provider),
        ("Request id", failure.request_id),
        ("The server said", failure.said),
    )
    return "\n".join(f"{name}: {value}" for name, value in facts if value)


@contextmanager
def shown() -> Iterator[None]:
    """Errors of the body appear where it draws. Streamlit's own stop and rerun signals pass."""
    try:
        yield
    except Exception as error:
        show(sentence(error), error.failure if isinstance(error, ProviderError) else None)


def drawing(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """For fragments and dialogs, which run without the rest of the page around them."""

    @functools.wraps(function)
    def draw(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        with shown():
            function(*args, **kwargs)

    return draw


def acting(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """For callbacks, which run before anything is drawn: the page shows the error with `show_last`."""

    @functools.wraps(function)
    def act(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            st.session_state["problem"] = sentence(error)

    return act


def show_last() -> None:
    """The error of the last callback, once."""
    if problem := st.session_state.pop("problem", None):
        show(problem)
