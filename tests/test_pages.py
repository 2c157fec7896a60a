"""The pages over services in memory, run as Streamlit runs them but without a browser."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import failures, messages, places
from rag import services
from rag.chat import LiveStage, Snapshot
from rag.domain import (
    Answer,
    Citation,
    Failure,
    Message,
    Progress,
    Remedy,
    Span,
    Spending,
    Step,
    Usage,
    Verdict,
    Version,
)
from rag.errors import NotFound
from rag.usage import Entry
from tests.fakes_ui import NOW, FakeServices, answer, hit

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


# ---------------------------------------------------------------- answers that are cut off, fail or make one wait


def cut_off(fake: FakeServices, state: str = "complete") -> AppTest:
    """A page whose last answer, written by a model, breaks off."""
    fake.models.chat = "a model"
    fake.chat.next_answer = answer("You can carry over five", incomplete=True)
    app = ask(opened(), "How many?")
    fake.conversations.change("m1", state=state)
    return sound(app.run())


def labels(app: AppTest) -> list[str]:
    return [one.label for one in app.button]


@pytest.mark.parametrize("state", ["complete", "stopped"])
def test_an_answer_that_was_cut_off_goes_on_in_place(filled: FakeServices, state: str) -> None:
    """One click, whether the stream broke or the reader stopped it."""
    app = cut_off(filled, state)
    filled.chat.next_answer = answer(" days [1].")
    app = sound(button(app, "Continue").click().run())
    assert "You can carry over five days" in app.chat_message[1].markdown[0].value
    assert len(app.chat_message) == 2
    assert "Continue" not in labels(app)


def test_a_complete_answer_has_nothing_to_continue(filled: FakeServices) -> None:
    """It can only be written anew."""
    filled.models.chat = "a model"
    app = ask(opened(), "How many?")
    assert "Regenerate" in labels(app)
    assert "Continue" not in labels(app)


def test_without_a_model_nothing_can_be_continued(filled: FakeServices) -> None:
    """There is no button that could only fail."""
    app = cut_off(filled)
    filled.models.chat = None
    assert "Continue" not in labels(sound(app.run()))


def test_only_the_last_answer_can_be_continued(filled: FakeServices) -> None:
    """An earlier one has others standing on it."""
    app = cut_off(filled)
    filled.chat.next_answer = answer("Five [1].")
    assert "Continue" not in labels(ask(app, "And how many?"))


def test_going_on_that_failed_leaves_the_text_and_says_why(filled: FakeServices) -> None:
    """What had arrived stays, and can be tried again."""
    app = cut_off(filled)
    filled.conversations.change("m1", problem="The server is down.")
    app = sound(app.run())
    assert "five" in app.chat_message[1].markdown[0].value
    assert app.error[0].value == "The server is down\\."
    assert "Continue" in labels(app)


def failed(fake: FakeServices, problem: str, failure: Failure | None = None) -> AppTest:
    """A page whose last answer failed."""
    app = ask(opened(), "How many?")
    fake.conversations.change("m1", state="failed", answer=None, text="", problem=problem, failure=failure)
    return sound(app.run())


def link(app: AppTest) -> str:
    """The label and the query of the links that the page shows, "" without."""
    return "".join(f"{one.value}?{one.proto.query_string}" for one in app.page_link)


def test_what_stands_behind_a_failure_is_folded_and_literal(filled: FakeServices) -> None:
    """An administrator asks for it; what the server says is never interpreted."""
    said = "![x](http://evil.example) $x$\u202e"
    app = failed(filled, "No credit.", Failure(402, "Inventor", "gen-7", said, "credit"))
    details = next(one for one in app.expander if one.label == "Details")
    assert not details.proto.expanded
    status, provider, request, said = details.caption[0].value.split("  \n")
    assert (status, provider, request) == ("Status\\: 402", "Provider\\: Inventor", "Request id\\: gen\\-7")
    assert said == "The server said\\: \\!\\[x\\]\\(http\u2060\\:\\/\\/evil\\.example\\) \\$x\\$"


def test_a_failure_about_which_nothing_is_known_has_no_details(filled: FakeServices) -> None:
    """There is nothing to unfold."""
    app = failed(filled, "It cannot be reached.", Failure(None, "", "", "", "server"))
    assert "Details" not in [one.label for one in app.expander]


@pytest.mark.parametrize(
    ("remedy", "tab"),
    [
        ("key", "Keys"),
        ("credit", "Usage"),
        ("models", "Models"),
        ("routing", "Routing"),
        ("server", "Keys"),
        ("wait", None),
    ],
)
def test_each_remedy_has_its_place_in_the_settings(remedy: Remedy, tab: str | None) -> None:
    """Waiting has none."""
    assert failures.settings_tab("It failed.", Failure(500, "", "", "", remedy)) == tab


def test_a_failure_links_to_the_settings_that_mend_it(filled: FakeServices) -> None:
    """One click from the sentence to the place it speaks of."""
    app = failed(filled, "The key was refused.", Failure(401, "", "", "", "key"))
    assert link(app) == "Settings → Keys?tab=Keys"


def test_a_sentence_that_names_the_settings_links_there(filled: FakeServices) -> None:
    """A budget that is spent is no failure of a server, and waiting is not all one can do."""
    assert link(failed(filled, "The budget is spent. Raise it in Settings → Usage.")) == "Settings → Usage?tab=Usage"
    waits = Failure(503, "", "", "", "wait")
    assert failures.settings_tab("Allow other providers in Settings → Routing.", waits) == "Routing"


def test_a_sentence_that_names_no_settings_links_nowhere(filled: FakeServices) -> None:
    """There is no link that leads to nothing."""
    assert link(failed(filled, "Something unexpected went wrong.")) == ""


@pytest.mark.parametrize(("tab", "opened_tab"), [("Usage", "Usage"), ("<b>", "Models")])
def test_a_link_opens_its_part_of_the_settings_once(filled: FakeServices, tab: str, opened_tab: str) -> None:
    """The address forgets it, so that the reader can turn to another part; one that does not exist changes nothing."""
    app = opened()
    app.query_params["tab"] = tab
    app = sound(app.switch_page("settings.py").run())
    assert app.session_state["settings_tab"] == opened_tab
    assert "tab" not in app.query_params


def test_an_answer_stopped_before_its_first_word_says_so(filled: FakeServices) -> None:
    """There is no incomplete answer to look for."""
    app = ask(opened(), "How many?")
    filled.conversations.change("m1", state="stopped", answer=None, text="")
    assert "Stopped before the answer began." in texts(sound(app.run()))


def snapshot(stage: LiveStage, started: float = 0.0, changed: float = 0.0) -> Snapshot:
    return Snapshot(1, stage, (), "", (), "", started, changed, done=False)


@pytest.mark.parametrize(
    ("stage", "words"), [("thinking", "Thinking"), ("writing", "Writing"), ("checking", "Checking citations")]
)
def test_while_an_answer_comes_its_stage_is_said(stage: LiveStage, words: str) -> None:
    """With the seconds since the question."""
    assert messages.doing(snapshot(stage, started=10, changed=21), now=22.5) == f":small[:shimmer[{words} · 12 s]]"


def test_a_silence_of_five_seconds_is_said() -> None:
    """Counted since the last sign of life."""
    silent = snapshot("writing", started=1, changed=10)
    assert "Still waiting" not in messages.doing(silent, now=14.9)
    assert "Still waiting for the answer (12 s)" in messages.doing(silent, now=22.5)


def test_a_step_done_twice_is_added_up() -> None:
    """An answer that was continued was written twice."""
    done = (Step("searching", 30, 0.02), Step("writing", 0, 1.5), Step("writing", 0, 2.0))
    assert messages.steps(done) == "30 passages found in 0.02 s, written in 3.5 s"


def test_what_an_answer_cost_stands_beside_its_times(filled: FakeServices) -> None:
    """On the same quiet line."""
    filled.chat.next_answer = answer("Five [1].", usage=Usage(1840, 21, 1, 0.0031))
    line = next(one.value for one in ask(opened(), "How many?").caption if "written in" in one.value)
    assert line.endswith("written in 1.2 s · 1,840 + 21 tokens · 1 search · \\$0\\.0031")


def test_what_a_model_thought_is_folded_above_the_answer(filled: FakeServices) -> None:
    """Shown as it is, apart from the answer."""
    filled.chat.next_answer = answer("Five [1].", reasoning="Page 4 says **five**.\n![x](http://evil.example)")
    app = ask(opened(), "How many?")
    folded = app.chat_message[1].expander[0]
    assert folded.label == "How the model got there"
    assert not folded.proto.expanded
    first, second = folded.caption[0].value.split("  \n")
    assert first == "Page 4 says \\*\\*five\\*\\*\\."
    assert second.startswith("\\!\\[x\\]")


def test_without_thoughts_there_is_nothing_to_unfold(filled: FakeServices) -> None:
    """Most models tell none."""
    assert "How the model got there" not in [one.label for one in ask(opened(), "How many?").expander]


def test_a_budget_that_is_nearly_spent_is_said_once_above_the_question(filled: FakeServices) -> None:
    """Before it stops anybody."""
    filled.choice.change(monthly_budget=10.0)
    spent = Spending("a model", "", Usage(cost=9.0), 1.0, 0, "done")
    filled.ledger.record([Entry(datetime.now(UTC), "writing", None, "", "", spent)])
    warnings = [one.value for one in opened().caption if "savings" in one.value]
    assert len(warnings) == 1
    assert "9" in warnings[0]


# ---------------------------------------------------------------- pictures, and what a model says of citations


def pictured(caption: str) -> Answer:
    """An answer that points to a picture on page 4; another one was read."""
    found = hit(1, 0.94, 3)
    chunk = replace(
        found.chunk, text=caption, page_first=4, page_last=4, spans=(Span(0, 4, "4", 0, 0),), figure="ab" * 16
    )
    citation = Citation(1, found.document, chunk, 0, len(caption), 0.94, "picture")
    hits = (replace(found, chunk=chunk), replace(found, chunk=replace(chunk, id="v1x8")))
    used = tuple(one.chunk.id for one in hits)
    return answer("Sales grew [1].", citations=(citation,), hits=hits, used=used)


def sources(app: AppTest) -> list[str]:
    return [one.value for one in app.markdown if "handbook" in one.value and "relevance" in one.value]


def opened_source(app: AppTest) -> AppTest:
    """The page with the drawer of the first source."""
    app.session_state["source"] = ("m1", 1)
    return sound(app.run())


def test_a_cited_picture_is_listed_by_its_page_and_caption(filled: FakeServices) -> None:
    """It has no sentence to light."""
    filled.chat.next_answer = pictured("Figure 3: *sales* by year")
    cited, read = sources(ask(opened(), "How did sales grow?"))
    assert "picture on page 4" in cited
    assert ":small[Figure 3\\: \\*sales\\* by year]" in cited
    assert "picture on page 4" in read


def test_a_picture_without_a_caption_leaves_no_empty_line(filled: FakeServices) -> None:
    """Among the cited and among the others."""
    filled.chat.next_answer = pictured("")
    assert [len(source.split("\n")) for source in sources(ask(opened(), "How did sales grow?"))] == [2, 2]


def test_a_picture_of_a_format_without_pages_is_called_one() -> None:
    """There is no page to name."""
    chunk = pictured("").citations[0].chunk
    assert places.page_of_chunk(replace(chunk, page_first=None, page_last=None)) == "picture"


def test_the_drawer_shows_the_picture_its_caption_and_its_scores(filled: FakeServices) -> None:
    """And that nothing was compared word by word."""
    filled.chat.next_answer = pictured("Figure 3: *sales* by year")
    app = opened_source(ask(opened(), "How did sales grow?"))
    assert len(app.get("image")) == 1
    shown = texts(app)
    assert "The answer points to this picture. Its content cannot be compared word by word." in shown
    assert "Figure 3: *sales* by year" in [one.value for one in app.text]
    assert "| Relevance" in shown


def test_the_caption_of_a_picture_stays_when_its_document_is_gone(filled: FakeServices) -> None:
    """With the reason why there is no picture."""
    filled.chat.next_answer = pictured("Figure 3: sales by year")
    app = ask(opened(), "How did sales grow?")
    filled.library.version = gone  # type: ignore[method-assign]
    app = opened_source(app)
    assert "Its picture cannot be shown any more; the caption is kept." in app.info[0].value
    assert "Figure 3: sales by year" in [one.value for one in app.text]


def gone(_version_id: str) -> Version:
    raise NotFound("This document was deleted.")


def judged(verdict: Verdict) -> Answer:
    """An answer whose one citation a model was asked about."""
    found = answer("Five days [1].")
    first = replace(found.citations[0], verdict=verdict, verdict_reason="It says *six*.")
    return replace(found, citations=(first,))


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("supported", "supported"), ("partly", "supports it in part"), ("unsupported", "does not support it")],
)
def test_the_drawer_says_what_a_model_found_and_why(filled: FakeServices, verdict: Verdict, words: str) -> None:
    """Its reason is shown as it is."""
    filled.chat.next_answer = judged(verdict)
    shown = texts(opened_source(ask(opened(), "How many?")))
    assert f"A model checked this citation: {words}. It says \\*six\\*\\." in shown


def test_a_citation_that_a_model_doubts_is_marked_in_the_list(filled: FakeServices) -> None:
    """Before anybody opens it."""
    filled.chat.next_answer = judged("unsupported")
    assert "a model finds it does not support the answer" in sources(ask(opened(), "How many?"))[0]


def test_a_citation_that_a_model_confirms_is_not_marked(filled: FakeServices) -> None:
    """The list names doubts alone."""
    filled.chat.next_answer = judged("supported")
    assert "a model finds" not in texts(ask(opened(), "How many?"))


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


def test_a_failed_document_links_to_the_settings_that_mend_it(fake: FakeServices) -> None:
    """Only the sentence is kept of it, and the sentence names the place."""
    collection = fake.library.create_collection("New", "local:wordllama-256")
    fake.library.status = "failed"
    fake.library.add(collection.id, "a.pdf", BytesIO(b"a"))
    document = fake.library.all_documents["d1"]
    refused = replace(document.newest, problem="The key was refused: check it in Settings → Keys (OPENROUTER_API_KEY).")
    fake.library.all_documents["d1"] = replace(document, newest=refused)
    assert link(opened("documents.py")) == "Settings → Keys?tab=Keys"


def test_pictures_need_an_embedding_model_that_takes_them(filled: FakeServices) -> None:
    """Without one the toggle says which to choose, and where."""
    app = opened("documents.py")
    assert app.toggle(key="search-figures").disabled
    assert "Settings → Models" in texts(app)
    assert "llama\\-nemotron\\-embed\\-vl" in texts(app)


def takes_pictures(fake: FakeServices) -> None:
    """The server's embedding model does, and the collection is indexed with it."""
    fake.models.embeddings, fake.models.embedding_takes_images = "openrouter:seeing", True
    fake.library.all_collections["c0"] = replace(
        fake.library.all_collections["c0"], embedding_model="openrouter:seeing"
    )


def test_searching_pictures_is_explained_before_it_starts(filled: FakeServices) -> None:
    """How many documents are read again, and where their pictures go; until then nothing has changed."""
    takes_pictures(filled)
    app = sound(opened("documents.py").toggle(key="search-figures").set_value(True).run())
    shown = texts(app)
    assert "1 document of **Handbooks** will be read again" in shown
    assert "are sent to openrouter\\:seeing" in shown
    assert not filled.library.collection("c0").figures
    assert not app.toggle(key="search-figures").value


def test_searching_text_only_is_explained_as_well(filled: FakeServices) -> None:
    """Also when the model in use takes no pictures any more."""
    filled.library.set_figures("c0", True)
    app = opened("documents.py")
    assert app.toggle(key="search-figures").value
    app = sound(app.toggle(key="search-figures").set_value(False).run())
    assert "only their text will be found" in texts(app)
    assert filled.library.collection("c0").figures


def test_a_collection_of_another_model_must_be_reindexed_before_its_pictures_are_searched(filled: FakeServices) -> None:
    """Its vectors are those of a model that reads text only."""
    filled.models.embeddings, filled.models.embedding_takes_images = "openrouter:seeing", True
    app = opened("documents.py")
    assert app.toggle(key="search-figures").disabled
    assert "to be re-indexed with openrouter\\:seeing" in texts(app)


def test_a_collection_indexed_on_this_machine_answers_beside_a_server(filled: FakeServices) -> None:
    """It is noted quietly, with the way to the server's model."""
    filled.models.embeddings = "openrouter:m"
    app = opened("documents.py")
    assert not app.warning
    assert "Indexed on this machine with local\\:wordllama\\-256, and answers with it." in texts(app)
    sound(app.button(key="reindex").click().run())
    assert filled.reindexed == ["c0"]


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
    filled.library.all_collections["c0"] = replace(filled.library.all_collections["c0"], embedding_model="openrouter:x")
    filled.models.embeddings = "openrouter:m"
    app = opened("documents.py")
    assert "indexed with openrouter\\:x" in app.warning[0].value
    sound(app.button(key="reindex").click().run())
    assert filled.reindexed == ["c0"]


def test_reindexing_shows_how_far_it_is(filled: FakeServices) -> None:
    """And what questions find meanwhile."""
    filled.library.all_collections["c0"] = replace(filled.library.all_collections["c0"], reindexing_to="openrouter:m")
    filled.models.embeddings = "openrouter:m"
    filled.reindexing_progress = Progress("embedding", 1200, 3400)
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


# ---------------------------------------------------------------- unexpected errors


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
