"""Answers of the sample documents: citations, their sources, refusals, and answers that are still being written."""

import threading
from collections.abc import Iterator
from io import BytesIO

import numpy
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import NEW_VIEW, PDF_OF, ask, copied, idle, serving, viewing
from tests.openrouter_server import DONE, KEY, Handler, OpenRouterServer, chunk, event
from tests.openrouter_server import serving as model_server

LEAVE = "How many days of annual leave can I carry over?"
CARRIED = "You may carry over up to five days of unused annual leave into the next year."


def last_answer(page: Page) -> Locator:
    return page.get_by_test_id("stChatMessage").last


def lit_share(picture: bytes) -> float:
    """The share of a picture's pixels that are light but not white or grey: the colour of a highlighter."""
    pixels = numpy.asarray(Image.open(BytesIO(picture)).convert("HSV"))
    return float(((pixels[..., 1] > 60) & (pixels[..., 2] > 180)).mean())


# ---------------------------------------------------------------- the samples, without a model


def test_a_citation_opens_its_page_with_the_sentence_lit(samples_app: str, view: NEW_VIEW) -> None:
    """From the chip in the answer to the very sentence in the PDF."""
    page = view(samples_app)
    ask(page, LEAVE)
    answer = last_answer(page)
    expect(answer.get_by_role("button", name="Copy")).to_be_visible()
    idle(page)
    sources = answer.locator('[class*="st-key-sources-"]')
    expect(sources).to_contain_text("Employee handbook.pdf")
    expect(sources.locator("span[style*='background']", has_text=CARRIED).first).to_be_visible()

    chip = answer.locator('a[href^="#cite-"]').first
    chip.hover()
    expect(page.locator("#footnote-card")).to_contain_text("Employee handbook.pdf")
    expect(page.locator("#footnote-card")).to_contain_text(CARRIED)

    chip.click()
    drawer = page.locator(".st-key-source-drawer")
    picture = drawer.get_by_role("img", name="with the cited sentence lit")
    expect(picture).to_be_visible()
    expect(drawer).to_contain_text("page 4 (PDF page 8)")
    expect(drawer).to_contain_text("Vector similarity")
    shown = page.request.get(picture.evaluate("image => image.src")).body()
    assert 0.001 < lit_share(shown) < 0.1


def test_a_citation_is_opened_by_keyboard(samples_app: str, view: NEW_VIEW) -> None:
    """Enter on the focused chip opens the drawer, Escape closes it; a DOCX shows its passage under its headings."""
    page = view(samples_app)
    ask(page, "What is the hotel limit in capital cities?")
    answer = last_answer(page)
    expect(answer.get_by_role("button", name="Copy")).to_be_visible()
    idle(page)
    answer.locator('a[href^="#cite-"]').first.focus()
    page.keyboard.press("Enter")
    drawer = page.locator(".st-key-source-drawer")
    expect(drawer).to_contain_text("4.1 Hotel limits")
    expect(drawer.locator("span[style*='background']", has_text="The hotel limit in capital cities")).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)


def test_what_the_documents_do_not_hold_is_refused(samples_app: str, view: NEW_VIEW) -> None:
    """With what was searched and the closest passages."""
    page = view(samples_app)
    ask(page, "Does the company pay for dental treatment?")
    answer = last_answer(page)
    expect(answer).to_contain_text("Not in your documents")
    expect(answer.locator('[class*="st-key-sources-"]')).to_contain_text("Closest passages")
    expect(answer.locator('a[href^="#cite-"]')).to_have_count(0)


def test_an_answer_is_copied_with_its_sources(samples_app: str, view: NEW_VIEW) -> None:
    """Without going to the server: the text first, then one line per source."""
    page = view(samples_app)
    ask(page, LEAVE)
    expect(last_answer(page).get_by_role("button", name="Copy")).to_be_visible()
    idle(page)
    text = copied(page, last_answer(page))
    assert "[1] Employee handbook.pdf, page 4 (PDF page 8)" in text
    assert CARRIED in text


@pytest.mark.parametrize(("dark", "width"), [(True, 1280), (False, 390), (True, 390)])
def test_it_fits_dark_and_small_screens(samples_app: str, view: NEW_VIEW, dark: bool, width: int) -> None:
    """Nothing sticks out, and a source opens there as well."""
    page = view(samples_app, dark=dark, width=width)
    ask(page, LEAVE)
    expect(last_answer(page).get_by_role("button", name="Copy")).to_be_visible()
    idle(page)
    wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth - window.innerWidth")
    assert wide <= 0
    last_answer(page).locator('a[href^="#cite-"]').first.click()
    expect(page.locator(".st-key-source-drawer").get_by_role("img", name="Page 8")).to_be_visible()


# ---------------------------------------------------------------- a model that takes its time


class SlowModel:
    """A chat model's server whose reply halts after its first words until it is let go on."""

    def __init__(self, server: OpenRouterServer) -> None:
        self.server = server
        self.go_on = threading.Event()
        server.always = self._reply

    def _reply(self, handler: Handler) -> None:
        handler.begin_stream()
        handler.send_piece(event(chunk("The fee is **12 euros** [1]. ")))
        self.go_on.wait(timeout=60)
        handler.send_piece(event(chunk("It is due each day [1].")))
        handler.send_piece(event(chunk("", "stop")) + DONE)
        handler.send_piece(b"")


@pytest.fixture(scope="module")
def writing_app(
    tmp_path_factory: pytest.TempPathFactory, browser: Browser, pdf_of: PDF_OF
) -> Iterator[tuple[str, OpenRouterServer]]:
    """An app whose answers are written by a model's server of ours, with one document ready."""
    with model_server() as server:
        settings = {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": server.url}
        settings |= {"FOOTNOTE_EMBEDDINGS": "local", "FOOTNOTE_RERANK": "local"}
        with serving(tmp_path_factory.mktemp("writing"), settings) as url, viewing(browser) as view:
            page = view(f"{url}/documents")
            content = pdf_of("The harbour fee is 12 euros per day.", "Boats over ten metres pay 20 euros.")
            file = {"name": "fees.pdf", "mimeType": "application/pdf", "buffer": content}
            page.locator('.st-key-upload input[type="file"]').set_input_files([file])
            expect(page.locator(".st-key-document-list")).to_contain_text("2 pages", timeout=60_000)
            yield url, server


def test_reload_and_a_second_tab_follow_an_answer(writing_app: tuple[str, OpenRouterServer], view: NEW_VIEW) -> None:
    """The answer goes on without its viewers, and comes to all of them."""
    url, server = writing_app
    model = SlowModel(server)
    page = view(url)
    ask(page, "What is the harbour fee?")
    expect(last_answer(page)).to_contain_text("12 euros")
    assert "?c=" in page.url
    page.reload()
    expect(last_answer(page)).to_contain_text("12 euros")
    second = view(page.url, settled=False)
    expect(last_answer(second)).to_contain_text("12 euros")
    model.go_on.set()
    for one in (page, second):
        expect(last_answer(one)).to_contain_text("It is due each day")
        expect(last_answer(one).get_by_role("button", name="Copy")).to_be_visible()


def test_stop_keeps_what_is_there(writing_app: tuple[str, OpenRouterServer], view: NEW_VIEW) -> None:
    """Even while the model is silent."""
    url, server = writing_app
    model = SlowModel(server)
    page = view(url)
    ask(page, "What is the harbour fee?")
    expect(last_answer(page)).to_contain_text("12 euros")
    page.locator(".st-key-stop button").click()
    expect(last_answer(page)).to_contain_text("Stopped. The answer is incomplete.")
    expect(last_answer(page)).to_contain_text("12 euros")
    expect(page.locator(".st-key-stop")).to_have_count(0)
    model.go_on.set()


def test_a_conversation_is_deleted_while_it_is_answered(
    writing_app: tuple[str, OpenRouterServer], view: NEW_VIEW
) -> None:
    """The click counts though the answer keeps the page busy, and the answer ends."""
    url, server = writing_app
    model = SlowModel(server)
    page = view(url)
    ask(page, "What is the harbour fee?")
    expect(last_answer(page)).to_contain_text("12 euros")
    page.get_by_role("button", name="Delete conversation").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete conversation").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_test_id("stChatMessage")).to_have_count(0)
    model.go_on.set()


def test_the_drawer_turns_to_the_next_source(writing_app: tuple[str, OpenRouterServer], view: NEW_VIEW) -> None:
    """Two sentences of the documents, one after the other."""
    url, server = writing_app
    server.always = None
    server.text_pieces = ("The harbour fee is 12 euros per day [1]. ", "Boats over ten metres pay 20 euros [1][2].")
    page = view(url)
    ask(page, "What is the harbour fee for boats over ten metres?")
    expect(last_answer(page).get_by_role("button", name="Copy")).to_be_visible()
    idle(page)
    last_answer(page).locator('a[href^="#cite-"]').first.click()
    drawer = page.locator(".st-key-source-drawer")
    expect(drawer.get_by_role("img", name="with the cited sentence lit")).to_be_visible()
    first = drawer.get_by_role("img", name="Page").get_attribute("alt")
    drawer.get_by_role("button", name="Next").click()
    expect(drawer.get_by_role("img", name="Page")).not_to_have_attribute("alt", first or "")
    expect(drawer.get_by_role("button", name="Next")).to_be_disabled()


def test_a_card_opens_while_the_answer_is_written(writing_app: tuple[str, OpenRouterServer], view: NEW_VIEW) -> None:
    """The first citation can be looked at before the last word is there."""
    url, server = writing_app
    model = SlowModel(server)
    page = view(url)
    ask(page, "What is the harbour fee?")
    last_answer(page).locator('a[href^="#cite-"]').first.hover()
    expect(page.locator("#footnote-card")).to_contain_text("The harbour fee is 12 euros per day.")
    model.go_on.set()
    expect(last_answer(page).get_by_role("button", name="Copy")).to_be_visible()
