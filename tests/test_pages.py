"""The pages over services in memory, run as Streamlit runs them but without a browser."""

import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from rag import services
from rag.domain import Message, Progress
from tests.fakes_ui import NOW, FakeServices, answer

SHELL = Path(__file__).parents[1] / "pages" / "shell.py"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeServices]:
    built = FakeServices(tmp_path)
    services.use(built)  # type: ignore[arg-type]
    yield built
    services.use(None)


@pytest.fixture
def filled(fake: FakeServices) -> FakeServices:
    """One collection with one document that is ready."""
    collection = fake.library.create_collection("Handbooks", "local:wordllama-256")
    fake.library.add(collection.id, "Employee handbook.pdf", BytesIO(b"handbook"))
    return fake


def opened(page: str = "chat.py") -> AppTest:
    app = AppTest.from_file(SHELL, default_timeout=20).run()
    if page != "chat.py":
        app.switch_page(page).run()
    return sound(app)


def sound(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].value
    return app


def texts(app: AppTest) -> str:
    """Everything on the page that is text."""
    kinds = (
        app.title,
        app.header,
        app.subheader,
        app.markdown,
        app.caption,
        app.text,
        app.info,
        app.warning,
        app.error,
    )
    return "\n".join(element.value for kind in kinds for element in kind)


def button(app: AppTest, label: str):  # type: ignore[no-untyped-def]
    return next(one for one in app.button if one.label == label)


def ask(app: AppTest, question: str) -> AppTest:
    return sound(app.chat_input[0].set_value(question).run())


# ---------------------------------------------------------------- first minute


def test_the_first_page_offers_two_ways_on(fake: FakeServices) -> None:
    """Nothing is there yet: what it is, that no key is needed, and how to add one."""
    app = opened()
    assert [one.label for one in app.button] == ["Try the sample documents", "Upload your own"]
    assert "OPENROUTER_API_KEY" in texts(app)
    assert not app.chat_input


def test_one_click_adds_the_sample_documents_and_suggests_questions(fake: FakeServices) -> None:
    """The samples can be asked at once, also something they do not answer."""
    app = sound(button(opened(), "Try the sample documents").click().run())
    names = {document.name for document in fake.library.all_documents.values()}
    assert "Employee handbook.pdf" in names
    assert fake.woken == 1
    labels = [one.label for one in app.button]
    assert "How many days of annual leave can I carry over?" in labels[0].replace("\\", "")
    assert app.chat_input


def test_a_suggested_question_is_asked_with_one_click(fake: FakeServices) -> None:
    """It appears as the reader's question, with its answer."""
    app = sound(button(opened(), "Try the sample documents").click().run())
    label = app.button[0].label
    app = sound(app.button[0].click().run())
    assert app.chat_message[0].text[0].value == label.replace("\\", "")
    assert "five days" in app.chat_message[1].markdown[0].value


def test_until_the_server_is_ready_the_pages_say_so(fake: FakeServices) -> None:
    """Rebuilding shows how far it has come, on every page."""
    fake.current_state.name, fake.current_state.done, fake.current_state.total = "rebuilding", 30, 120
    app = opened()
    assert app.subheader[0].value == "Footnote is repairing its index"
    assert not app.chat_input


# ---------------------------------------------------------------- chat


def test_a_question_is_answered_with_citations_and_sources(filled: FakeServices) -> None:
    """The answer's numbers open sources, and the list names document, page, section, score, model and ranks."""
    app = ask(opened(), "How many leave days can I carry over?")
    markdown = [one.value for one in app.chat_message[1].markdown]
    assert "[:blue-badge[1]](#cite-m1-1)" in markdown[0]
    source = next(one for one in markdown if one.startswith("[:blue-badge[1]]") and "handbook" in one)
    assert "page 1 · Leave › Annual leave" in source
    assert ":yellow-background[Up to five unused days" in source
    assert "relevance 0.94 (strong) by local reranker · rank 3 → 1" in source


def test_the_conversation_is_in_the_address(filled: FakeServices) -> None:
    """So that it can be reloaded and sent to a colleague."""
    app = ask(opened(), "How many?")
    assert "k0" in app.query_params["c"]


def test_a_conversation_in_the_address_is_shown_again(filled: FakeServices) -> None:
    """A reload is a new session with the same address."""
    ask(opened(), "How many?")
    app = AppTest.from_file(SHELL, default_timeout=20)
    app.query_params["c"] = "k0"
    app = sound(app.run())
    assert [message.name for message in app.chat_message] == ["user", "assistant"]


def test_an_unknown_conversation_in_the_address_begins_a_new_one(filled: FakeServices) -> None:
    """A link to a deleted conversation is not an error."""
    app = AppTest.from_file(SHELL, default_timeout=20)
    app.query_params["c"] = "gone"
    app = sound(app.run())
    assert not app.chat_message
    assert not app.error


def test_a_question_that_is_refused_as_input_is_not_lost(filled: FakeServices) -> None:
    """The reason is said and the words stay in the box."""
    app = ask(opened(), "x" * 20_001)
    assert "too long" in app.error[0].value
    assert not filled.conversations.said


def test_a_refusal_shows_what_was_searched_and_the_closest_passages(filled: FakeServices) -> None:
    """Nothing is answered, and the reader can judge why."""
    filled.chat.next_answer = answer("This is not in your documents.", refused=True, citations=(), used=())
    app = ask(opened(), "Is there a dental plan?")
    shown = texts(app)
    assert "**Not in your documents**" in shown
    assert "Searched for “How many leave days can I carry over\\?”" in shown
    assert "relevance 0.44" in shown


def test_a_rewritten_question_is_shown(filled: FakeServices) -> None:
    """What was searched may be more than what was typed."""
    assert "Searched for “How many leave days can I carry over\\?”" in texts(ask(opened(), "And how many?"))
    assert "Searched for" not in texts(ask(opened(), "How many leave days can I carry over?"))


def test_a_source_that_supports_only_in_part_says_so(filled: FakeServices) -> None:
    """In the list, before anybody opens it."""
    shown = [one.value for one in ask(opened(), "How many?").markdown if "handbook" in one.value]
    assert ["supports it only in part" in one for one in shown[:2]] == [False, True]


def test_a_weak_answer_is_marked(filled: FakeServices) -> None:
    """Between refused and confident the reader is told to check."""
    filled.chat.next_answer = answer("Perhaps [1].", weak=True)
    assert "Weak match" in texts(ask(opened(), "How many?"))


def test_extracts_are_labelled_and_shown_as_they_are(filled: FakeServices) -> None:
    """A sentence of a document is not formatted."""
    filled.chat.next_answer = answer("*Up to* five. [1]", extracts=True)
    app = ask(opened(), "How many?")
    assert "Extracts from your documents (no language model is configured)" in texts(app)
    assert "\\*Up to\\* five\\." in texts(app)


def test_notices_of_an_answer_are_shown(filled: FakeServices) -> None:
    """What failed on the way is not kept from the reader."""
    filled.chat.next_answer = answer("Five [1].", notices=("Reranking failed: no credit.",))
    assert "Reranking failed\\: no credit\\." in texts(ask(opened(), "How many?"))


@pytest.mark.parametrize(
    ("state", "said"),
    [("stopped", "Stopped. The answer is incomplete."), ("interrupted", "interrupted while it was being written")],
)
def test_an_answer_that_ended_early_keeps_its_text_and_says_so(filled: FakeServices, state: str, said: str) -> None:
    """Stopped by the reader, or by the server's end."""
    app = ask(opened(), "How many?")
    filled.conversations.change("m1", state=state)
    app = sound(app.run())
    assert said in texts(app)
    assert "five days" in texts(app)


def left_writing(fake: FakeServices, message_id: str) -> None:
    """Nobody writes the answer any more, but its end is not in the database."""
    fake.conversations.change(message_id, state="writing", answer=None, text="You can carry")


def test_an_answer_whose_end_could_not_be_stored_is_shown_as_interrupted(filled: FakeServices) -> None:
    """What there is of it is shown, and the conversation can go on."""
    app = ask(opened(), "How many?")
    left_writing(filled, "m1")
    app = sound(app.run())
    assert "You can carry" in texts(app)
    assert "interrupted while it was being written" in texts(app)
    assert button(app, "Regenerate")
    app = ask(app, "And how many?")
    assert "five days" in app.chat_message[3].markdown[0].value


def test_an_answer_that_ends_while_the_page_is_drawn_is_shown_finished(filled: FakeServices) -> None:
    """Between reading the message and asking who writes it, it may have been stored."""
    app = ask(opened(), "How many?")
    finished = filled.conversations.message("m1")
    left_writing(filled, "m1")

    def ended(message_id: str) -> None:
        filled.conversations.change(message_id, state="complete", answer=finished.answer, text=finished.text)

    filled.chat.live = ended  # type: ignore[method-assign]
    app = sound(app.run())
    assert "five days" in app.chat_message[1].markdown[0].value
    assert "interrupted" not in texts(app)


def test_a_failed_answer_says_why(filled: FakeServices) -> None:
    """The sentence of the failure is shown as it is, and the question can be tried again."""
    app = ask(opened(), "How many?")
    filled.conversations.change("m1", state="failed", answer=None, text="", problem="The key was refused. [x](y)")
    app = sound(app.run())
    assert app.error[0].value == "The key was refused\\. \\[x\\]\\(y\\)"
    assert button(app, "Regenerate")


def test_a_second_try_that_failed_says_why_below_the_first_answer(filled: FakeServices) -> None:
    """The answer that is there stays, and the reader learns why there is no other."""
    app = ask(opened(), "How many?")
    shown = app.chat_message[1].markdown[0].value
    filled.conversations.change("m1", problem="No credit left.")
    app = sound(app.run())
    assert app.chat_message[1].markdown[0].value == shown
    assert app.error[0].value == "No credit left\\."


def test_regenerate_writes_the_last_answer_anew(filled: FakeServices) -> None:
    """The message keeps its place."""
    app = ask(opened(), "How many?")
    filled.chat.next_answer = answer("Seven [1].")
    app = sound(button(app, "Regenerate").click().run())
    assert "Seven" in app.chat_message[1].markdown[0].value
    assert len(app.chat_message) == 2


def test_only_the_last_answer_can_be_regenerated(filled: FakeServices) -> None:
    """An earlier one has others standing on it."""
    app = ask(ask(opened(), "First?"), "Second?")
    assert [one.label for one in app.button].count("Regenerate") == 1


def test_long_conversations_show_their_end_first(filled: FakeServices) -> None:
    """Older messages are behind a button."""
    conversation = filled.conversations.create("c0")
    for number in range(15):
        filled.conversations.say(conversation.id, "user", f"question {number}")
        filled.conversations.say(conversation.id, "assistant", f"answer {number}")
    app = AppTest.from_file(SHELL, default_timeout=20)
    app.query_params["c"] = conversation.id
    app = sound(app.run())
    assert len(app.chat_message) == 20
    app = sound(button(app, "Show 10 earlier messages").click().run())
    assert len(app.chat_message) == 30


def test_a_conversation_whose_collection_is_gone_can_be_read(filled: FakeServices) -> None:
    """Its answers stay; it cannot be continued."""
    ask(opened(), "How many?")
    filled.conversations.kept["k0"] = replace(filled.conversations.kept["k0"], collection_id=None)
    app = AppTest.from_file(SHELL, default_timeout=20)
    app.query_params["c"] = "k0"
    app = sound(app.run())
    assert "collection of this conversation was deleted" in app.info[0].value
    assert not app.chat_input


def test_an_empty_collection_says_so_instead_of_asking(fake: FakeServices) -> None:
    """There is no dead input."""
    fake.library.create_collection("Empty", "local:wordllama-256")
    app = opened()
    assert app.subheader[0].value == "Nothing to ask yet"
    assert not app.chat_input


def test_a_collection_still_being_indexed_says_so(fake: FakeServices) -> None:
    """Asking is possible as soon as one document is ready."""
    collection = fake.library.create_collection("New", "local:wordllama-256")
    fake.library.status = "working"
    fake.library.add(collection.id, "a.pdf", BytesIO(b"a"))
    app = opened()
    assert app.subheader[0].value == "Getting your documents ready"
    fake.library.finish()
    assert sound(app.run()).chat_input


def test_deleting_a_conversation_asks_first(filled: FakeServices) -> None:
    """The question names it, and nothing is gone yet."""
    app = ask(opened(), "How many?")
    app = sound(button(app, "Delete conversation").click().run())
    assert "“How many\\?”" in texts(app)
    assert filled.conversations.kept


# ---------------------------------------------------------------- documents


def test_uploads_are_kept_and_each_has_its_result(filled: FakeServices) -> None:
    """Added, already here, or refused with the reason; the indexer is told once."""
    app = opened("documents.py")
    files = [("new.pdf", b"new", "application/pdf"), ("again.pdf", b"handbook", "application/pdf")]
    app = sound(app.file_uploader[0].set_value([*files, ("empty.pdf", b"", "application/pdf")]).run())
    outcomes = [one.value for one in app.markdown if one.value.startswith(":gray[")]
    assert outcomes[:3] == [":gray[added]", ":gray[already here]", ":gray[The file is empty\\.]"]
    assert [one.value for one in app.text][:3] == ["new.pdf", "Employee handbook.pdf", "empty.pdf"]
    assert filled.woken == 1


def test_results_stay_until_dismissed(filled: FakeServices) -> None:
    """They survive other clicks, and the same files are not added twice."""
    app = opened("documents.py")
    app = sound(app.file_uploader[0].set_value([("new.pdf", b"new", "application/pdf")]).run())
    app = sound(app.run())
    assert ":gray[added]" in texts(app)
    app = sound(button(app, "Dismiss").click().run())
    assert ":gray[added]" not in texts(app)
    assert len(filled.library.all_documents) == 2


def test_the_first_upload_makes_a_collection(fake: FakeServices) -> None:
    """Nobody has to name one first."""
    app = opened("documents.py")
    sound(app.file_uploader[0].set_value([("new.pdf", b"new", "application/pdf")]).run())
    assert [one.name for one in fake.library.collections()] == ["Documents"]


def test_a_ready_document_shows_what_it_holds(filled: FakeServices) -> None:
    """Pages, passages, size and day."""
    assert f"12 pages · 48 passages · 8 bytes · {NOW.day} Nov 2026" in texts(opened("documents.py"))


def test_a_failed_document_says_why_and_can_be_retried(fake: FakeServices) -> None:
    """Retry puts it into the queue and wakes the indexer."""
    collection = fake.library.create_collection("New", "local:wordllama-256")
    fake.library.status = "failed"
    fake.library.add(collection.id, "a.pdf", BytesIO(b"a"))
    app = opened("documents.py")
    assert "The file is damaged\\." in texts(app)
    sound(button(app, "Retry").click().run())
    assert fake.library.all_documents["d1"].newest.status == "queued"
    assert fake.woken == 1


def test_removing_a_document_asks_first(filled: FakeServices) -> None:
    """The question names what will be gone, and nothing is gone yet."""
    app = sound(button(opened("documents.py"), "Remove").click().run())
    assert "**Employee handbook\\.pdf** will be gone" in texts(app)
    assert filled.library.all_documents


def test_deleting_a_collection_asks_first(filled: FakeServices) -> None:
    """The question counts the documents that will be gone, and nothing is gone yet."""
    app = sound(button(opened("documents.py"), "Delete").click().run())
    assert "with its 1 document will be gone" in texts(app)
    assert filled.library.collections()


def test_the_collection_chosen_on_one_page_is_shown_on_the_other(filled: FakeServices) -> None:
    """Also after the widget has shown another one before."""
    filled.library.create_collection("Contracts", "local:wordllama-256")
    app = opened("documents.py")
    app = sound(app.selectbox[0].select("c1").run())
    app = sound(app.switch_page("chat.py").run())
    assert app.selectbox[0].value == "c1"
    app = sound(app.selectbox[0].select("c0").run())
    app = sound(app.switch_page("documents.py").run())
    assert app.selectbox[0].value == "c0"


def test_another_embedding_model_offers_to_reindex(filled: FakeServices) -> None:
    """Changing the model is not an error to find out about at the first question."""
    filled.models.embeddings = "openrouter:m"
    app = opened("documents.py")
    assert "indexed with local" in app.warning[0].value
    sound(app.button(key="reindex").click().run())
    assert filled.reindexed == ["c0"]


def test_reindexing_shows_how_far_it_is(filled: FakeServices) -> None:
    """And what questions find meanwhile."""
    filled.library.all_collections["c0"] = replace(filled.library.all_collections["c0"], reindexing_to="openrouter:m")
    filled.models.embeddings = "openrouter:m"
    filled.reindexing = Progress("embedding", 1200, 3400)
    app = opened("documents.py")
    assert app.info[0].value.startswith("Re-indexing with openrouter\\:m: 1,200 of 3,400 passages.")
    assert "Re-index with" not in "".join(one.label for one in app.button)


def test_reindexing_that_failed_says_why_and_can_be_tried_again(filled: FakeServices) -> None:
    """It is not shown as going on."""
    filled.library.all_collections["c0"] = replace(filled.library.all_collections["c0"], reindexing_to="openrouter:m")
    filled.models.embeddings = "openrouter:m"
    filled.reindexing_problem = "The model server has no credit left."
    app = opened("documents.py")
    assert app.error[0].value == "The model server has no credit left\\."
    assert not app.info
    sound(app.button(key="reindex").click().run())
    assert filled.reindexed == ["c0"]


def test_progress_is_visible_from_other_pages(fake: FakeServices) -> None:
    """One line tells how many are on their way and how far one of them is."""
    collection = fake.library.create_collection("New", "local:wordllama-256")
    fake.library.status = "working"
    fake.library.add(collection.id, "a.pdf", BytesIO(b"a"))
    app = opened("settings.py")
    line = app.get("progress")[0].proto.text
    assert "Indexing 1 document · a\\.pdf · Reading 4 of 12 pages" in line


# ---------------------------------------------------------------- settings and failures


def test_settings_never_show_a_key(filled: FakeServices) -> None:
    """Only whether there is one."""
    filled.settings.openrouter_api_key = "sk-very-secret"
    shown = texts(opened("settings.py"))
    assert "with a key" in shown
    assert "very-secret" not in shown


def test_settings_name_the_upload_limit(filled: FakeServices) -> None:
    """In the unit it is set in, also when it is one."""
    filled.settings.max_upload_mb = 1
    assert "Files of up to 1 MB." in texts(opened("settings.py"))


def test_an_unexpected_error_is_shown_by_its_id_alone(filled: FakeServices, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the place where it happened under the same id, and no text of a document."""

    text = "secret words"

    def broken(_conversation_id: str) -> tuple[Message, ...]:
        raise RuntimeError(text + " of a document")

    app = ask(opened(), "How many?")
    filled.conversations.messages = broken  # type: ignore[method-assign]
    app = app.run()
    assert not app.exception
    found = re.search("[0-9a-f]{8}", app.error[0].value)
    assert found is not None and found.group() in caplog.text
    assert f"{text} of" not in app.error[0].value + caplog.text
