"""What is uploaded is never lost, never doubled, and visible in one step."""

import hashlib
import threading
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shelf import MEGABYTE, MODEL, Shelf, pdf
from sqlalchemy import Table, func, select

from rag.conversations import Conversations
from rag.database import documents, embeddings, pages, versions
from rag.domain import PDF, Progress
from rag.errors import FileTooLarge, InvalidRequest, NotFound, UnreadableDocument
from rag.library import clean_name


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def count(shelf: Shelf, table: Table) -> int:
    with shelf.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# ---------------------------------------------------------------- collections


@pytest.mark.parametrize("name", ["a", "Team 7", "v1.2_final-b", "Ärzte", "法务", "हिन्दी", "عقود", "x" * 64])
def test_names_of_any_script_are_accepted(shelf: Shelf, name: str) -> None:
    """Letters of all scripts with their marks, digits, spaces and . _ -"""
    assert shelf.library.create_collection(name, MODEL).name == name


@pytest.mark.parametrize(
    "name", ["", "   ", "x" * 65, "a/b", "a\nb", "<b>", "a\u202eb", "a\u0000", "..", "-", "a%20b", "😀", "a\u00a0b"]
)
def test_malformed_names_are_refused(shelf: Shelf, name: str) -> None:
    """With a sentence, and nothing is created."""
    with pytest.raises(InvalidRequest, match="collection's name"):
        shelf.library.create_collection(name, MODEL)
    assert len(shelf.library.collections()) == 1


@pytest.mark.parametrize("taken", ["policies", "POLICIES", "  Policies ", "ＰＯＬＩＣＩＥＳ"])
def test_names_are_unique_without_regard_to_case(shelf: Shelf, taken: str) -> None:
    """A second collection of the same folded name is refused, and the first is found under it."""
    with pytest.raises(InvalidRequest, match="“Policies” already"):
        shelf.library.create_collection(taken, MODEL)
    assert shelf.library.collection_named(taken) == shelf.collection


def test_renaming(shelf: Shelf) -> None:
    """A collection may change the case of its own name but not take another's."""
    other = shelf.library.create_collection("Minutes", MODEL)
    assert shelf.library.rename_collection(other.id, "MINUTES").name == "MINUTES"
    with pytest.raises(InvalidRequest, match="already"):
        shelf.library.rename_collection(other.id, "policies")
    assert [one.name for one in shelf.library.collections()] == ["MINUTES", "Policies"]


def test_a_removed_collection_is_gone_at_once_and_its_name_is_free(shelf: Shelf) -> None:
    """Its documents too, and conversations about it lose it."""
    conversations = Conversations(shelf.database)
    conversation = conversations.create(shelf.collection.id)
    document = shelf.publish("a.pdf", "apple")
    shelf.library.remove_collection(shelf.collection.id)
    assert shelf.library.collections() == ()
    assert shelf.library.collection_named("Policies") is None
    assert shelf.found("apple") == []
    assert conversations.get(conversation.id).collection_id is None
    with pytest.raises(NotFound):
        shelf.library.document(document.id)
    with pytest.raises(NotFound):
        shelf.upload("b.pdf")
    assert shelf.library.create_collection("Policies", MODEL).id != shelf.collection.id


def test_erasing_a_collection_leaves_nothing(shelf: Shelf) -> None:
    """No row, no file, no vector."""
    shelf.publish("a.pdf", "apple")
    shelf.publish("a.pdf", "pear")
    shelf.library.remove_collection(shelf.collection.id)
    assert shelf.library.erase(shelf.index) > 0
    assert shelf.index.rows == {}
    assert shelf.originals.kept() == frozenset()
    assert [count(shelf, table) for table in (documents, versions, pages, embeddings)] == [0, 0, 0, 0]
    assert shelf.library.erase(shelf.index) == 0


def test_unknown_collections(shelf: Shelf) -> None:
    """Every way to ask for one is the same error."""
    library = shelf.library
    for ask in (library.collection, library.remove_collection, lambda one: library.rename_collection(one, "B")):
        with pytest.raises(NotFound):
            ask("unknown")
    assert library.collection_named("unknown") is None


# ---------------------------------------------------------------- uploads


def test_an_upload_is_on_disk_and_queued(shelf: Shelf) -> None:
    """The original is there under its hash before anything is read from it."""
    added = shelf.upload("a.pdf", "words")
    version = added.document.newest
    assert added.outcome == "new"
    assert added.document.current is None
    assert (version.status, version.number, version.media_type) == ("queued", 1, PDF)
    assert (version.size, version.sha256) == (len(pdf("words")), hashlib.sha256(pdf("words")).hexdigest())
    assert shelf.originals.path(version.sha256).read_bytes() == pdf("words")


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", UnreadableDocument), (b"plain text", UnreadableDocument), (bytes(2 * MEGABYTE), FileTooLarge)],
)
def test_refused_files_leave_nothing(shelf: Shelf, content: bytes, error: type[Exception]) -> None:
    """Neither a row nor a file."""
    with pytest.raises(error):
        shelf.library.add(shelf.collection.id, "notes.txt", BytesIO(content))
    assert shelf.documents() == ()
    assert list((shelf.folder / "originals").iterdir()) == []


@pytest.mark.parametrize("indexed", [False, True])
def test_the_same_bytes_are_here_already(shelf: Shelf, indexed: bool) -> None:
    """Queued or ready, under the same name or another: nothing happens."""
    first = shelf.upload("a.pdf").document
    if indexed:
        version = shelf.claim()
        shelf.save(version, ["apple"])
        shelf.library.publish(version.id)
    again = shelf.upload("another name.pdf")
    assert again.outcome == "present"
    assert again.document.id == first.id
    assert len(shelf.documents()) == 1
    assert count(shelf, versions) == 1


def test_the_same_bytes_in_another_collection_are_another_document(shelf: Shelf) -> None:
    """They share the file; removing one leaves it to the other."""
    document = shelf.publish("a.pdf", "apple")
    other = shelf.library.create_collection("Other", MODEL)
    added = shelf.library.add(other.id, "a.pdf", BytesIO(pdf("apple")))
    assert added.outcome == "new"
    shelf.library.remove(document.id)
    shelf.library.erase(shelf.index)
    assert shelf.originals.path(added.document.newest.sha256).exists()


def test_a_failed_file_uploaded_again_is_tried_again(shelf: Shelf) -> None:
    """The same version is queued once more, without its old problem."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    shelf.library.failed(version.id, "No text was found.")
    assert shelf.documents()[0].newest.problem == "No text was found."
    again = shelf.upload("a.pdf")
    assert again.outcome == "retried"
    assert (again.document.newest.id, again.document.newest.status) == (version.id, "queued")
    assert again.document.newest.problem is None


def test_the_same_name_with_other_bytes_is_a_new_version(shelf: Shelf) -> None:
    """The document keeps its id and goes on answering from the old version until the new one is published."""
    old = shelf.publish("a.pdf", "apple")
    added = shelf.upload("a.pdf", "banana")
    assert added.outcome == "new"
    assert added.document.id == old.id
    assert added.document.current == old.current
    assert (added.document.newest.number, added.document.newest.status) == (2, "queued")
    version = shelf.claim()
    shelf.save(version, ["banana"])
    assert (shelf.found("apple"), shelf.found("banana")) == (["apple"], [])
    shelf.library.publish(version.id)
    assert (shelf.found("apple"), shelf.found("banana")) == ([], ["banana"])


def test_a_failed_new_version_leaves_the_old_one_answering(shelf: Shelf) -> None:
    """The list shows the failure, questions see the old version."""
    old = shelf.publish("a.pdf", "apple")
    shelf.upload("a.pdf", "banana")
    version = shelf.claim()
    shelf.save(version, ["banana"])
    shelf.library.failed(version.id, "Out of credit.")
    document = shelf.library.document(old.id)
    assert document.current == old.current
    assert document.newest.status == "failed"
    assert shelf.found("apple banana") == ["apple"]


def test_a_version_that_waits_is_not_made_when_a_newer_one_comes(shelf: Shelf) -> None:
    """Only the newest of two queued versions is worked on."""
    shelf.upload("a.pdf", "one")
    newest = shelf.upload("a.pdf", "two").document.newest
    assert shelf.claim().id == newest.id
    assert shelf.library.claim() is None


def test_versions_published_in_the_wrong_order(shelf: Shelf) -> None:
    """An older version that is finished later does not replace a newer one."""
    shelf.upload("a.pdf", "one")
    slow = shelf.claim()
    shelf.upload("a.pdf", "two")
    fast = shelf.claim()
    shelf.save(slow, ["apple"])
    shelf.save(fast, ["banana"])
    shelf.library.publish(fast.id)
    shelf.library.publish(slow.id)
    assert shelf.found("apple banana") == ["banana"]
    assert shelf.library.version(slow.id).status == "replaced"


def test_uploads_at_once_make_one_document(shelf: Shelf) -> None:
    """However many threads bring the same bytes, one of them is first."""
    start = threading.Barrier(6)
    outcomes = []

    def upload() -> None:
        start.wait()
        outcomes.append(shelf.upload("a.pdf").outcome)

    threads = [threading.Thread(target=upload) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["new"] + ["present"] * 5
    assert len(shelf.documents()) == 1


def test_the_newest_upload_is_first(shelf: Shelf) -> None:
    """A replaced document counts as uploaded again."""
    for name in ("a.pdf", "b.pdf", "c.pdf"):
        shelf.upload(name, name)
    shelf.upload("a.pdf", "again")
    assert [document.name for document in shelf.documents()] == ["a.pdf", "c.pdf", "b.pdf"]


# ---------------------------------------------------------------- the queue


def test_the_queue_is_first_come_first_served(shelf: Shelf) -> None:
    """Also after something was put back."""
    ids = [shelf.upload(f"{number}.pdf", str(number)).document.newest.id for number in range(3)]
    first = shelf.claim()
    shelf.library.requeue(first.id)
    assert [shelf.claim().id for _ in range(3)] == ids
    assert shelf.library.claim() is None


def test_a_version_is_claimed_once(shelf: Shelf) -> None:
    """Many threads that claim at once never get the same one."""
    for number in range(20):
        shelf.upload(f"{number}.pdf", str(number))
    claimed = []

    def claim() -> None:
        while (version := shelf.library.claim()) is not None:
            claimed.append(version.id)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 20


def test_progress_and_activity(shelf: Shelf) -> None:
    """How far each document is, and what is on its way."""
    shelf.upload("a.pdf", "a")
    shelf.upload("b.pdf", "b")
    version = shelf.claim()
    shelf.library.progress(version.id, Progress("reading", 3, 7))
    shelf.library.set_pages(version.id, 7, ("Page 2 has no text.",))
    now = shelf.library.version(version.id)
    assert (now.status, now.stage, now.done, now.total, now.pages) == ("working", "reading", 3, 7, 7)
    assert now.warnings == ("Page 2 has no text.",)
    activity = shelf.library.activity()
    assert (activity.waiting, activity.working) == (1, 1)
    assert {document.name for document in activity.documents} == {"a.pdf", "b.pdf"}


def test_what_was_interrupted_is_queued_again(shelf: Shelf) -> None:
    """After a kill, what was being worked on starts anew."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    assert shelf.library.requeue_interrupted() == 1
    assert shelf.claim().id == version.id


def test_retry(shelf: Shelf) -> None:
    """A failed document is queued; one that has not failed is left alone."""
    ready = shelf.publish("ready.pdf", "apple")
    failed = shelf.upload("failed.pdf").document
    shelf.library.failed(shelf.claim().id, "It failed.")
    for document in (ready, failed):
        shelf.library.retry(document.id)
    assert shelf.library.document(ready.id).newest.status == "ready"
    assert shelf.library.document(failed.id).newest.status == "queued"


# ---------------------------------------------------------------- removal


def test_a_removed_document_is_gone_at_once(shelf: Shelf) -> None:
    """From lists, from search, and from every way to ask for it."""
    document = shelf.publish("a.pdf", "apple")
    shelf.library.remove(document.id)
    assert shelf.documents() == ()
    assert shelf.found("apple") == []
    for ask, key in (
        (shelf.library.document, document.id),
        (shelf.library.version, document.newest.id),
        (shelf.library.remove, document.id),
        (shelf.library.retry, document.id),
    ):
        with pytest.raises(NotFound):
            ask(key)


def test_erasing_removes_everything_of_the_document_and_nothing_else(shelf: Shelf) -> None:
    """Rows, file, vectors and embeddings of one document; another one that shares a passage keeps all of its own."""
    kept = shelf.publish("kept.pdf", "apple", "pear")
    gone = shelf.publish("gone.pdf", "apple", "quince")
    shelf.library.remove(gone.id)
    shelf.library.erase(shelf.index)
    assert shelf.originals.kept() == {kept.newest.sha256}
    assert shelf.index.rows[shelf.collection.index] == {f"{kept.newest.id}x0", f"{kept.newest.id}x1"}
    assert count(shelf, embeddings) == 2
    assert [count(shelf, table) for table in (documents, versions, pages)] == [1, 1, 1]
    assert sorted(shelf.found("apple pear quince")) == ["apple", "pear"]


def test_a_removed_file_can_be_uploaded_again_at_once(shelf: Shelf) -> None:
    """Before the old one is erased; erasing it then leaves the new one's file alone."""
    old = shelf.publish("a.pdf", "apple")
    shelf.library.remove(old.id)
    new = shelf.publish("a.pdf", "apple")
    shelf.library.erase(shelf.index)
    assert new.id != old.id
    assert shelf.originals.path(new.newest.sha256).exists()
    assert shelf.found("apple") == ["apple"]
    assert shelf.vectors.of_chunks(MODEL, [f"{new.newest.id}x0"])


def test_what_is_being_worked_on_is_erased_later(shelf: Shelf) -> None:
    """Not under the hands of the one who works on it, but as soon as they let go."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    shelf.save(version, ["apple"])
    shelf.library.remove(version.document_id)
    assert shelf.library.erase(shelf.index) == 0
    with pytest.raises(NotFound, match="removed"):
        shelf.library.publish(version.id)
    shelf.library.failed(version.id, "It was removed.")
    assert shelf.library.erase(shelf.index) == 1
    assert shelf.originals.kept() == frozenset()
    assert shelf.found("apple") == []


def test_replaced_versions_keep_page_and_file_but_no_vectors(shelf: Shelf) -> None:
    """Former answers show them; questions must not find them."""
    old = shelf.publish("a.pdf", "apple").newest
    new = shelf.publish("a.pdf", "banana").newest
    shelf.library.erase(shelf.index)
    assert shelf.index.rows[shelf.collection.index] == {f"{new.id}x0"}
    assert shelf.originals.kept() == {old.sha256, new.sha256}
    assert count(shelf, embeddings) == 1
    shelf.library.remove(new.document_id)
    shelf.library.erase(shelf.index)
    assert shelf.originals.kept() == frozenset()


def test_unreferenced_files_are_removed(shelf: Shelf) -> None:
    """What a kill left between the file and its row goes; what a row refers to stays."""
    document = shelf.publish("a.pdf", "apple")
    (shelf.folder / "originals" / ("0" * 64)).write_bytes(b"orphan")
    (shelf.folder / "originals" / ".upload-x").write_bytes(b"half")
    shelf.library.erase_unreferenced()
    assert [path.name for path in (shelf.folder / "originals").iterdir()] == [document.newest.sha256]


def test_paid_embeddings_are_kept_for_what_is_still_to_be_indexed(shelf: Shelf) -> None:
    """They are erased only when nothing waits any more that they may have been made for."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    shelf.save(version, ["apple"])
    shelf.library.requeue(version.id)
    shelf.save(shelf.claim(), ["pear"])
    shelf.library.erase_unreferenced()
    assert count(shelf, embeddings) == 2
    shelf.library.publish(version.id)
    shelf.library.erase_unreferenced()
    assert count(shelf, embeddings) == 1


# ---------------------------------------------------------------- embedding models


def test_the_first_dimension_stays(shelf: Shelf) -> None:
    """It is recorded once, when there are vectors."""
    for dimension, recorded in ((0, None), (26, 26), (3, 26)):
        shelf.library.set_dimension(shelf.collection.id, dimension)
        assert shelf.library.collection(shelf.collection.id).dimension == recorded


def test_reindexing_changes_everything_in_one_step(shelf: Shelf) -> None:
    """Until it is finished the former model stays on record, so that an interrupted one begins anew."""
    shelf.library.set_dimension(shelf.collection.id, 26)
    shelf.library.begin_reindexing(shelf.collection.id, "other")
    during = shelf.library.collection(shelf.collection.id)
    assert (during.embedding_model, during.dimension, during.generation) == (MODEL, 26, 1)
    assert during.reindexing_to == "other"
    shelf.library.finish_reindexing(shelf.collection.id, "other", 3, 2)
    after = shelf.library.collection(shelf.collection.id)
    assert (after.embedding_model, after.dimension, after.generation, after.reindexing_to) == ("other", 3, 2, None)


# ---------------------------------------------------------------- names of files


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd.pdf", "passwd.pdf"),
        ("C:\\Users\\me\\report.pdf", "report.pdf"),
        ("a\u202efdp.exe.pdf", "afdp.exe.pdf"),
        ("tab\there\r\n.pdf", "tab here .pdf"),
        ("nul\0.pdf", "nul.pdf"),
        ("  spaced   out .pdf ", "spaced out .pdf"),
        ("<img src=x>.pdf", "<img src=x>.pdf"),
        ("[link](http://x).pdf", "x).pdf"),
        ("e\u0301te\u0301.pdf", "été.pdf"),
        ("", "document"),
        ("..", "document"),
        ("folder/", "document"),
        ("\u200b\u2028", "document"),
        ("x" * 300 + ".docx", "x" * 195 + ".docx"),
        ("x" * 300 + "." + "y" * 300, "x" * 200),
    ],
)
def test_file_names_are_cleaned(name: str, shown: str) -> None:
    """No folders, no invisible characters, a bounded length that keeps the extension."""
    assert clean_name(name) == shown


@given(st.text(max_size=400))
def test_a_cleaned_name_is_clean(name: str) -> None:
    """Whatever comes, what is shown is short, visible, and stays the same when cleaned again."""
    shown = clean_name(name)
    assert 1 <= len(shown) <= 200
    assert shown.isprintable()
    assert not {"/", "\\"} & set(shown)
    assert clean_name(shown) == shown


# ------------------------------------------------------------------ which embedding model


def test_a_collection_without_vectors_takes_another_model(shelf: Shelf) -> None:
    """There is nothing yet that would not fit."""
    shelf.upload("a.pdf")
    version = shelf.claim()
    assert shelf.library.adopt_model(shelf.collection.id, version.id, "other").embedding_model == "other"


def test_a_model_is_not_changed_under_a_version_that_is_being_indexed(shelf: Shelf) -> None:
    """Vectors of one model must not come under the name of another."""
    shelf.upload("a.pdf", "a")
    shelf.upload("b.pdf", "b")
    first, second = shelf.claim(), shelf.claim()
    assert shelf.library.adopt_model(shelf.collection.id, first.id, MODEL).embedding_model == MODEL
    assert shelf.library.adopt_model(shelf.collection.id, second.id, "other").embedding_model == MODEL


def test_what_answers_keeps_its_model(shelf: Shelf) -> None:
    """Until it is re-indexed."""
    shelf.publish("a.pdf", "alpha")
    shelf.upload("b.pdf", "b")
    version = shelf.claim()
    assert shelf.library.adopt_model(shelf.collection.id, version.id, "other").embedding_model == MODEL
