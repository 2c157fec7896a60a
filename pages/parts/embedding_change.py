"""Another embedding model makes other vectors: what that means is said before anything starts."""

import streamlit as st

from pages.parts import failures, prices
from pages.parts.untrusted import literal
from pages.parts.words import count
from rag import services
from rag.domain import Collection
from rag.services import Reindexing
from rag.usage import dollars

_MOST_NUMBERS = 10_000
_NAMED = 6
_WANTED = "embedding_wanted"
_DIMENSIONS = "embedding-dimensions"


def begin(model: str | None, dimensions: int | None) -> None:
    """Open the dialog about this model (None: the one the server was started with). Nothing is changed yet."""
    st.session_state[_WANTED] = model
    st.session_state[_DIMENSIONS] = dimensions


def _cancel() -> None:
    st.session_state.pop(_WANTED, None)


def _resolved(model: str | None) -> str:
    return model or services.get().settings.embedding_model


def standing() -> list[str]:
    """Lines of Markdown: the length of vectors, and collections that are still indexed with another model."""
    dimensions = services.get().preferences.dimensions
    lines = [f"Vectors of {dimensions:,} numbers" if dimensions else "Vectors as long as the model makes them"]
    if others := behind():
        named = literal(", ".join(one.name for one in others[:_NAMED]))
        more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
        lines.append(f"Still indexed with another model: {named}{more}")
    return lines


def buttons() -> None:
    """Other vectors of the model in use: shorter ones, or those of collections that have none yet."""
    preferences = services.get().preferences
    wanted = (preferences.embedding_model, preferences.dimensions)
    names = [("change-length", "Vector length", ":material/straighten:")]
    if behind():
        names.append(("move-collections", "Move collections to this model", ":material/move_up:"))
    for key, label, icon in names:
        st.button(label, key=key, icon=icon, type="tertiary", on_click=begin, args=wanted)


def behind() -> list[Collection]:
    """Collections that are indexed with another model than the one in use, and not on their way to it."""
    built = services.get()
    return [
        one
        for one in built.library.collections()
        if built.models.embeddings not in (one.embedding_model, one.reindexing_to)
    ]


# ---------------------------------------------------------------- the dialog


def dialog() -> None:
    """The dialog, while it is open."""
    if _WANTED in st.session_state:
        _dialog(st.session_state[_WANTED])


def _passages(collection: Collection) -> int:
    documents = services.get().library.documents(collection.id)
    return sum(document.current.chunks for document in documents if document.current is not None)


def _collections(moving: tuple[Collection, ...]) -> str:
    """Markdown: names and passages, the first few by name."""
    lines = [f"- {literal(one.name)}: {count(_passages(one), 'passage')}" for one in moving[:_NAMED]]
    if len(moving) > _NAMED:
        lines.append(f"- and {len(moving) - _NAMED:,} more")
    return "\n".join(lines)


def _cost(effort: Reindexing) -> str:
    """Markdown: what it will cost, as far as that is known."""
    if effort.tokens == 0:
        return "Every vector is known already: it costs nothing."
    known = (
        f" {effort.known:,} of {count(effort.passages, 'passage')} are known already and cost nothing."
        if effort.known
        else ""
    )
    tokens = f"About {effort.tokens:,} tokens will be embedded."
    if effort.cost is None:
        return f"{tokens}{known} What that costs is not known: the server's list has no price for this model."
    cost = "nothing" if effort.cost == 0 else f"about {literal(dollars(effort.cost))}"
    return f"{tokens}{known} At the list price that costs **{cost}**."


def _apply(model: str | None, dimensions: int | None, moving: tuple[Collection, ...]) -> None:
    built = services.get()
    built.choice.change(embedding_model=model, dimensions=dimensions)
    for collection in moving:
        built.indexer.reindex(collection.id)
    _cancel()


@st.dialog("Change the embedding model?", width="medium", on_dismiss=_cancel)
@failures.drawing
def _dialog(model: str | None) -> None:
    built = services.get()
    name = _resolved(model)
    st.markdown(f"**{literal(name)}**")
    info = built.choice.info("embeddings", name)
    st.caption(literal(prices.facts(info)) if info else "Not in the server's list: check its name.")
    dimensions = st.number_input(
        "Length of vectors",
        min_value=1,
        max_value=_MOST_NUMBERS,
        value=None,  # and not the one it begins with: that could not be emptied
        step=64,
        placeholder="as long as the model makes them",
        key=_DIMENSIONS,
        help="Some models can make shorter vectors: they take less room and are a little less exact. Leave it empty "
        "where you do not know.",
    )
    effort = built.reindexing(name, dimensions)
    if effort.collections:
        st.markdown("Vectors of different models cannot be compared, so these collections are embedded anew:")
        st.markdown(_collections(effort.collections))
        st.markdown(_cost(effort))
        st.markdown("Until a collection is done, its questions find words, but not meaning. Nothing has started yet.")
    else:
        st.markdown("No collection has to be embedded anew.")
    with st.container(horizontal=True):
        label = "Change and embed anew" if effort.collections else "Change"
        if st.button(label, type="primary", key="confirm-embedding"):
            _apply(model, dimensions, effort.collections)
            st.rerun()
        if st.button("Cancel", key="cancel-embedding"):
            _cancel()
            st.rerun()
