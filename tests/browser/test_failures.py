"""Models' servers that break off, fall silent, refuse or think aloud, as a reader meets them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from rag.database import Database
from rag.preferences import Preferences, PreferenceStore
from tests.browser.conftest import NEW_VIEW, PDF_OF, ask, idle, serving, viewing
from tests.openrouter_server import DONE, KEY, OpenRouterServer, chunk, event, fails, streams, thought
from tests.openrouter_server import serving as model_server

BEGUN = "The harbour fee is **12 euros** per day [1]. It is du"
HOSTILE = "<img src=x onerror=alert(1)>![x](y)$x$"


@pytest.fixture(scope="module")
def app(
    tmp_path_factory: pytest.TempPathFactory, browser: Browser, pdf_of: PDF_OF
) -> Iterator[tuple[str, OpenRouterServer]]:
    """An app that keeps what its models think, with one document ready, and the server that writes its answers."""
    folder = tmp_path_factory.mktemp("failures")
    PreferenceStore(Database(folder / "data" / "footnote.db")).save(Preferences(shows_reasoning=True))
    with model_server() as server:
        settings = {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": server.url}
        settings |= {"FOOTNOTE_EMBEDDINGS": "local", "FOOTNOTE_RERANK": "local"}
        with serving(folder, settings) as url, viewing(browser) as view:
            page = view(f"{url}/documents")
            file = {"name": "fees.pdf", "mimeType": "application/pdf", "buffer": pdf_of("The harbour fee is 12 euros.")}
            page.locator('.st-key-upload input[type="file"]').set_input_files([file])
            expect(page.locator(".st-key-document-list")).to_contain_text("1 page", timeout=60_000)
            yield url, server


def last_answer(page: Page) -> Locator:
    return page.get_by_test_id("stChatMessage").last


def asked(app: tuple[str, OpenRouterServer], view: NEW_VIEW, reply: object) -> Page:
    """A page whose question gets this reply."""
    url, server = app
    server.replies.append(reply)  # type: ignore[arg-type]
    page = view(url)
    ask(page, "What is the harbour fee?")
    return page


def test_a_stream_that_broke_goes_on_with_one_click(app: tuple[str, OpenRouterServer], view: NEW_VIEW) -> None:
    """In the same message, and the word that was cut in half is whole."""
    page = asked(app, view, streams(event(chunk(BEGUN)), end="cut"))
    expect(last_answer(page)).to_contain_text("The answer was cut off before its end.")
    app[1].replies.append(streams(event(chunk("due each day [1].")), event(chunk("", "stop")), DONE))
    last_answer(page).get_by_role("button", name="Continue").click()
    expect(last_answer(page)).to_contain_text("It is due each day")
    expect(last_answer(page).get_by_role("button", name="Continue")).to_have_count(0)
    expect(page.get_by_test_id("stChatMessage")).to_have_count(2)


def test_a_silent_server_is_said_to_be_silent_and_can_be_stopped(
    app: tuple[str, OpenRouterServer], view: NEW_VIEW
) -> None:
    """What had come can then be continued."""
    page = asked(app, view, streams(event(chunk(BEGUN)), end="stall"))
    expect(last_answer(page)).to_contain_text("Still waiting for the answer (")
    page.locator(".st-key-stop button").click()
    expect(last_answer(page)).to_contain_text("Stopped. The answer is incomplete.")
    expect(last_answer(page).get_by_role("button", name="Continue")).to_be_visible()


def test_a_refusal_leads_to_the_settings_that_mend_it(app: tuple[str, OpenRouterServer], view: NEW_VIEW) -> None:
    """What the server says of it is folded below, and stays text."""
    page = asked(app, view, fails(401, HOSTILE, metadata={"error_type": "authentication"}))
    answer = last_answer(page)
    expect(answer.get_by_test_id("stAlert")).to_contain_text("does not accept the key (401)")
    idle(page)
    answer.get_by_text("Details").click()
    expect(answer.get_by_text(HOSTILE)).to_be_visible()
    expect(answer.locator("img")).to_have_count(0)
    answer.get_by_role("link", name="Settings → Keys").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    expect(page.get_by_role("radio", name="Keys")).to_be_checked()


def test_what_a_model_thinks_can_be_watched(app: tuple[str, OpenRouterServer], view: NEW_VIEW) -> None:
    """Folded until somebody looks, and never part of the answer."""
    page = asked(app, view, streams(event(thought(f"Page 1 names a fee. {HOSTILE}")), end="stall"))
    answer = last_answer(page)
    expect(answer).to_contain_text("Thinking")
    expect(answer.get_by_text("Page 1 names a fee.")).to_be_hidden()
    answer.get_by_text("How the model got there").click()
    expect(answer.get_by_text(f"Page 1 names a fee. {HOSTILE}")).to_be_visible()
    expect(answer.locator("img")).to_have_count(0)
    page.locator(".st-key-stop button").click()
    expect(answer).to_contain_text("Stopped before the answer began.")
