"""What went wrong, said once and the same way everywhere: our own sentences as they are, anything else by an id."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import streamlit as st

from pages.parts.untrusted import literal
from rag.errors import FootnoteError, incident

logger = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")


def sentence(error: Exception) -> str:
    """What to tell the person. Unexpected errors are logged without their message, which may hold document text."""
    if isinstance(error, FootnoteError):
        return str(error)
    return incident(logger, error, "Drawing a page")


def show(problem: str) -> None:
    st.error(literal(problem), icon=":material/error:")


@contextmanager
def shown() -> Iterator[None]:
    """Errors of the body appear where it draws. Streamlit's own stop and rerun signals pass."""
    try:
        yield
    except Exception as error:
        show(sentence(error))


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
