"""Collections and their documents: upload, watch the indexing, retry, remove."""

from collections.abc import Sequence

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from pages.parts import failures, progress
from pages.parts.untrusted import literal, shortened
from pages.parts.words import count, day, size
from rag import services
from rag.domain import Collection, Document
from rag.errors import FootnoteError

_ON_A_PAGE = 25
_RESULTS_SHOWN = 8
_RESULTS_HEIGHT = 320
_FIRST_COLLECTION = "Documents"
_TAKES_IMAGES = "nvidia/llama-nemotron-embed-vl-1b-v2"
_OUTCOMES = {
    "new": "added",
    "present": "already here",
    "retried": "failed before, tried again",
}


# ---------------------------------------------------------------- dialogs
#
# Which one is open is remembered until it is answered, because the page draws itself anew when indexing ends.


def _open(dialog: str) -> None:
    st.session_state["dialog"] = dialog


def _close() -> None:
    st.session_state.pop("dialog", None)


def _dialogs(chosen: Collection | None, documents: Sequence[Document]) -> None:
    dialog = st.session_state.get("dialog")
    document = next((one for one in documents if one.id == dialog), None)
    if dialog == "create":
        _create()
    elif dialog == "rename" and chosen is not None:
        _rename(chosen)
    elif dialog == "delete" and chosen is not None:
        _delete(chosen)
    elif dialog == "figures" and chosen is not None:
        _figures(chosen)
    elif document is not None:
        _remove(document)


# ---------------------------------------------------------------- collections


def _chosen() -> Collection | None:
    collections = services.get().library.collections()
    wanted = st.session_state.get("collection_id")
    chosen = next((one for one in collections if one.id == wanted), collections[0] if collections else None)
    if chosen is not None:
        st.session_state["collection_id"] = chosen.id
    return chosen


def _choose() -> None:
    st.session_state["collection_id"] = st.session_state["shown_collection"]


def _collections(chosen: Collection | None) -> None:
    collections = {one.id: one.name for one in services.get().library.collections()}
    with st.container(key="collection", horizontal=True, vertical_alignment="bottom", gap="small"):
        if chosen is not None:
            st.session_state["shown_collection"] = chosen.id  # the widget's own memory may be of another one
            st.selectbox(
                "Collection",
                list(collections),
                format_func=lambda one: collections.get(one, ""),
                key="shown_collection",
                on_change=_choose,
                width=280,
            )
        st.button("New collection", icon=":material/add:", key="new-collection", on_click=_open, args=("create",))
        if chosen is not None:
            st.button(
                "Rename",
                icon=":material/edit:",
                key="rename-collection",
                type="tertiary",
                on_click=_open,
                args=("rename",),
            )
            if chosen.dimension is not None:
                st.button(
                    "Re-index",
                    icon=":material/refresh:",
                    key="reindex-collection",
                    type="tertiary",
                    help="Makes the index anew with the configured embedding model. Texts that it knows cost nothing.",
                    on_click=_reindex,
                    args=(chosen.id,),
                )
            st.button(
                "Delete",
                icon=":material/delete:",
                key="delete-collection",
                type="tertiary",
                on_click=_open,
                args=("delete",),
            )


@failures.acting
def _reindex(collection_id: str) -> None:
    services.get().indexer.reindex(collection_id)


def _new_collection(name: str) -> Collection:
    built = services.get()
    return built.library.create_collection(name, built.models.embeddings)


@st.dialog("New collection", on_dismiss=_close)
@failures.drawing
def _create() -> None:
    with st.form("create", border=False):
        name = st.text_input("Name", max_chars=64, placeholder="Contracts 2026")
        if st.form_submit_button("Create", type="primary"):
            st.session_state["collection_id"] = _new_collection(name).id
            _close()
            st.rerun()


@st.dialog("Rename collection", on_dismiss=_close)
@failures.drawing
def _rename(collection: Collection) -> None:
    with st.form("rename", border=False):
        name = st.text_input("Name", value=collection.name, max_chars=64)
        if st.form_submit_button("Rename", type="primary"):
            services.get().library.rename_collection(collection.id, name)
            _close()
            st.rerun()


@st.dialog("Delete this collection?", on_dismiss=_close)
@failures.drawing
def _delete(collection: Collection) -> None:
    built = services.get()
    documents = built.library.documents(collection.id)
    st.markdown(
        f"**{literal(collection.name)}** with its {count(len(documents), 'document')} will be gone: files, "
        "index and page pictures. Answers given earlier keep their text, quotes and scores."
    )
    if st.button("Delete collection", type="primary", key="confirm-delete"):
        built.library.remove_collection(collection.id)
        built.indexer.wake()
        _close()
        st.rerun()


# ---------------------------------------------------------------- pictures


def _figures_toggle(collection: Collection) -> None:
    """Whether pictures of this collection are searched; changing it asks first, and shows what holds until then."""
    hindrance = None if collection.figures else _why_no_figures(collection)
    st.session_state["search-figures"] = collection.figures
    with st.container(gap="xxsmall", key="figures"):
        st.toggle(
            "Search pictures and scanned pages",
            key="search-figures",
            disabled=hindrance is not None,
            on_change=_open,
            args=("figures",),
        )
        if hindrance is not None:
            st.caption(hindrance)


def _why_no_figures(collection: Collection) -> str | None:
    """Markdown: why the vectors of this collection cannot hold pictures, and what would help; None when they can."""
    models = services.get().models
    if not models.embedding_takes_images:
        return (
            f"Needs an embedding model that takes pictures, like {literal(_TAKES_IMAGES)}: choose one in "
            "Settings → Models."
        )
    if collection.dimension is not None and collection.embedding_model != models.embeddings:
        return f"Needs the collection to be re-indexed with {literal(models.embeddings)}, which takes pictures."
    return None


def _figures(collection: Collection) -> None:
    title = "Search text only?" if collection.figures else "Search pictures and scanned pages?"
    st.dialog(title, on_dismiss=_close)(_change_figures)(collection)


@failures.drawing
def _change_figures(collection: Collection) -> None:
    built = services.get()
    documents = built.library.documents(collection.id)
    again = f"{count(len(documents), 'document')} of **{literal(collection.name)}** will be read again"
    if collection.figures:
        st.markdown(f"{again}, and only their text will be found.")
        label = "Search text only"
    else:
        st.markdown(
            f"{again}. Their pictures and their pages without text are sent to {literal(built.models.embeddings)} now, "
            "and to the models that rank and answer when a question finds them, if those take pictures. Text that is "
            "indexed already is not paid for again."
        )
        label = "Search pictures too"
    if st.button(label, type="primary", key="confirm-figures"):
        built.library.set_figures(collection.id, not collection.figures)
        built.indexer.wake()
        _close()
        st.rerun()


# ---------------------------------------------------------------- embeddings


def _embedding_notice(collection: Collection) -> None:
    """The collection's vectors are another model's: what that means, and the way out."""
    built = services.get()
    configured = built.models.embeddings
    name = literal(configured or "keywords only")
    has_begun = collection.reindexing_to is not None
    problem = built.indexer.problem(collection.id)
    if problem is not None:
        failures.show(problem)
    if has_begun and problem is None:
        reached = built.indexer.reindexing(collection.id)
        done = f": {reached.done:,} of {count(reached.total, 'passage')}" if reached is not None else ""
        st.info(f"Re-indexing with {name}{done}. Questions find words meanwhile, but not meaning.")
        return
    if has_begun:
        st.warning(f"Re-indexing with {name} has not finished. Until then questions find words, but not meaning.")
    elif collection.embedding_model == configured or not built.library.documents(collection.id):
        return
    elif built.choice.models.embedder_of(collection.embedding_model) is not None:
        st.caption(
            f":material/info: Indexed on this machine with {literal(collection.embedding_model)}, and answers with it. "
            f"{name} is used for new collections."
        )
    else:
        st.warning(
            f"This collection was indexed with {literal(collection.embedding_model or 'keywords only')}, "
            f"but {name} is configured now. It cannot be asked until it is re-indexed."
        )
    if st.button(
        f"Re-index with {name}", key="reindex", icon=":material/refresh:", on_click=_reindex, args=(collection.id,)
    ):
        st.rerun()


# ---------------------------------------------------------------- upload


def _release(file: UploadedFile) -> None:
    """Free the file's bytes, which Streamlit would keep until the session ends. Internal, so used only if there."""
    context = get_script_run_ctx()
    remove = getattr(getattr(context, "uploaded_file_mgr", None), "remove_file", None)
    if context is not None and remove is not None:
        remove(session_id=context.session_id, file_id=file.file_id)


def _add(collection_id: str, file: UploadedFile) -> tuple[str, str, bool]:
    """Keep one file; returns its name, what became of it and whether it was accepted."""
    try:
        added = services.get().library.add(collection_id, file.name, file)
    except FootnoteError as error:
        return file.name, str(error), False
    except Exception as error:
        return file.name, failures.sentence(error), False
    finally:
        _release(file)
    return added.document.name, _OUTCOMES[added.outcome], True


@failures.acting
def _upload(collection_id: str | None, key: str) -> None:
    # The browser may send the same files again before it has drawn the new uploader; released ones are no files then.
    files = [file for file in st.session_state.get(key) or () if isinstance(file, UploadedFile)]
    if not files:
        return
    if collection_id is None:
        collection_id = _new_collection(_FIRST_COLLECTION).id
        st.session_state["collection_id"] = collection_id
    results = [_add(collection_id, file) for file in files]
    st.session_state["results"] = [*st.session_state.get("results", ()), *results]
    st.session_state["uploads"] = st.session_state.get("uploads", 0) + 1  # a new key empties the uploader
    services.get().indexer.wake()


def _uploader(chosen: Collection | None) -> None:
    limit = services.get().settings.max_upload_mb
    key = f"files-{st.session_state.get('uploads', 0)}"
    with st.container(key="upload"):
        # No `type`: the content decides, and a file that is refused gets its reason in the list of results.
        st.file_uploader(
            f"Add PDF or Word files, up to {limit:,} MB each",
            accept_multiple_files=True,
            key=key,
            on_change=_upload,
            args=(chosen.id if chosen is not None else None, key),
        )


def _results() -> None:
    """What became of the files uploaded last, until dismissed."""
    results = st.session_state.get("results")
    if not results:
        return
    height = _RESULTS_HEIGHT if len(results) > _RESULTS_SHOWN else "content"
    with st.container(border=True, key="upload-results", gap="small", height=height):
        for name, outcome, accepted in results:
            with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
                st.markdown(":green[:material/check:]" if accepted else ":red[:material/close:]", width="content")
                st.text(shortened(name, 80), width="content")
                st.markdown(f":gray[{literal(outcome)}]", width="content")
    if st.button("Dismiss", key="dismiss-results", type="tertiary", icon=":material/close:"):
        del st.session_state["results"]
        st.rerun()


# ---------------------------------------------------------------- documents


def _state(document: Document, pictures: int) -> None:
    """One line: how far it is, what it holds, or why it failed."""
    newest, current = document.newest, document.current
    match newest.status:
        case "queued" | "working":
            text = progress.words(newest)
            if current is not None:
                text += " · the version before it answers meanwhile"
            st.progress(progress.fraction(newest), text=f":small[:gray[{text}]]")
        case "failed":
            problem = newest.problem or "It could not be indexed."
            st.markdown(f":small[:red[:material/error: {literal(problem)}]]")
            failures.mend(problem, newest.failure)
            failures.details(newest.failure)
            if current is not None:
                st.caption("The version before it still answers.")
        case "cancelled":
            st.caption("Cancelled")
        case _:
            pages = count(newest.pages, "page") if newest.pages is not None else ""
            texts = count(newest.chunks - pictures, "passage") if newest.chunks > pictures else ""
            shown = count(pictures, "picture") if pictures else ""
            facts = (pages, texts, shown, size(newest.size), day(newest.created_at))
            st.caption(" · ".join(fact for fact in facts if fact))
    for warning in newest.warnings:
        st.caption(f":material/info: {literal(warning)}")


def _row(document: Document, pictures: int) -> None:
    library = services.get().library
    with st.container(
        key=f"document-{document.id}", border=True, horizontal=True, vertical_alignment="center", gap="small"
    ):
        with st.container(gap="xxsmall"):
            st.text(document.name)
            _state(document, pictures)
        if document.newest.status in ("failed", "cancelled") and st.button(
            "Retry", key=f"retry-{document.id}", icon=":material/refresh:", type="tertiary"
        ):
            library.retry(document.id)
            services.get().indexer.wake()
            st.rerun()
        if st.button("Remove", key=f"remove-{document.id}", icon=":material/delete:", type="tertiary"):
            _open(document.id)
            st.rerun()


@st.dialog("Remove this document?", on_dismiss=_close)
@failures.drawing
def _remove(document: Document) -> None:
    st.markdown(
        f"**{literal(document.name)}** will be gone from this collection and from disk. Answers given earlier keep "
        "their quotes, without page pictures."
    )
    if st.button("Remove document", type="primary", key="confirm-remove"):
        built = services.get()
        built.library.remove(document.id)
        built.indexer.wake()
        _close()
        st.rerun()


@failures.drawing
def _documents(collection: Collection, polls: bool) -> None:
    documents = services.get().library.documents(collection.id)
    documents = sorted(documents, key=lambda document: document.newest.status != "working")
    collection = services.get().library.collection(collection.id)
    if polls and not _changes(documents, collection):
        st.rerun()
    _embedding_notice(collection)
    with st.container(key="document-list", gap="small"):
        if not documents:
            st.caption("No documents yet. Drop some files above.")
            return
        pages = -(-len(documents) // _ON_A_PAGE)
        first = 0
        if pages > 1:
            first = (st.pagination(pages, key=f"page-of-{collection.id}") - 1) * _ON_A_PAGE
        shown = documents[first : first + _ON_A_PAGE]
        pictures = services.get().figures.counts([document.newest.id for document in shown])
        for document in shown:
            _row(document, pictures.get(document.newest.id, 0))


def _changes(documents: Sequence[Document], collection: Collection) -> bool:
    """Whether the list will look different without anybody doing anything."""
    is_reindexing = collection.reindexing_to is not None and services.get().indexer.problem(collection.id) is None
    return is_reindexing or any(document.newest.status in ("queued", "working") for document in documents)


def draw() -> None:
    st.title("Documents", anchor=False)
    chosen = _chosen()
    documents = services.get().library.documents(chosen.id) if chosen is not None else ()
    progress.line(besides=chosen.id if chosen is not None else None)
    _collections(chosen)
    _uploader(chosen)
    if chosen is not None:
        _figures_toggle(chosen)
    failures.show_last()
    _results()
    _dialogs(chosen, documents)
    if chosen is not None:
        polls = _changes(documents, chosen)
        st.fragment(_documents, run_every=progress.EVERY if polls else None)(chosen, polls)


draw()
