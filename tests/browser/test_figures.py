"""Pictures of documents, from the switch of their collection to the drawer of a source."""

from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect
from reportlab.lib.pagesizes import A5
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from tests.browser.conftest import NEW_VIEW, ask, copied, idle, serving
from tests.openrouter_server import KEY
from tests.openrouter_server import serving as model_server

SEEING = {"FOOTNOTE_EMBEDDING_MODEL": "maker/seeing-embed-1", "FOOTNOTE_RERANK": "off"}


def scan() -> bytes:
    """A PDF of one page that is nothing but a picture, as from a scanner."""
    picture = Image.new("RGB", (840, 1180), "white")
    drawing = ImageDraw.Draw(picture)
    for bar in range(6):
        drawing.rectangle([120 + bar * 100, 900 - bar * 90, 180 + bar * 100, 1000], fill=(23, 96, 107))
    content = BytesIO()
    paper = Canvas(content, pagesize=A5)
    paper.drawImage(ImageReader(picture), 0, 0, *A5)
    paper.showPage()
    paper.save()
    return content.getvalue()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app whose models take pictures."""
    with model_server() as server:
        server.text_pieces = ("The harbour's income grew each year [1].",)
        settings = {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": server.url, **SEEING}
        with serving(tmp_path_factory.mktemp("figures"), settings) as url:
            yield url


def test_a_scanned_page_is_found_cited_and_shown(app: str, view: NEW_VIEW) -> None:
    """Once its collection's pictures are searched, which asks first."""
    page = view(f"{app}/documents")
    page.locator('.st-key-upload input[type="file"]').set_input_files(
        [{"name": "Scanned report.pdf", "mimeType": "application/pdf", "buffer": scan()}]
    )
    listed = page.locator(".st-key-document-list")
    expect(listed).to_contain_text("no text", timeout=60_000)
    idle(page)
    page.locator(".st-key-figures").get_by_text("Search pictures and scanned pages").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("are sent to openrouter:maker/seeing-embed-1")
    dialog.get_by_role("button", name="Search pictures too").click()
    expect(dialog).to_have_count(0)
    expect(listed).to_contain_text("1 page · 1 picture", timeout=60_000)
    idle(page)

    page.get_by_role("link", name="Chat").click()
    ask(page, "How did the harbour's income develop?")
    answer = page.get_by_test_id("stChatMessage").last
    expect(answer.locator('[class*="st-key-sources-"]')).to_contain_text("picture on page 1")
    idle(page)
    assert copied(page, answer).endswith("\n[1] Scanned report.pdf, picture on page 1")
    chip = answer.locator('a[href^="#cite-"]').first
    chip.hover()
    expect(page.locator("#footnote-card img")).to_be_visible()
    chip.click()
    drawer = page.locator(".st-key-source-drawer")
    expect(drawer.get_by_role("img", name="The cited picture on page 1")).to_be_visible()
    expect(drawer).to_contain_text("Its content cannot be compared word by word.")
