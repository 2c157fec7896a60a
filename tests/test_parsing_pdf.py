"""PDF files become pages and blocks whose every character leads back to the file."""

from functools import partial
from pathlib import Path

import pypdf
import pypdfium2
import pytest
from reportlab.pdfgen.canvas import Canvas

from rag.domain import Block, Page
from rag.errors import UnreadableDocument
from rag.parsing import pdf
from rag.parsing.budget import MAX_PAGES
from rag.parsing.ending import Ending
from tests.pdfs import drawn, lines, raw, row, worded

PARAGRAPH = [
    "The tenant shall keep the premises in good repair and condition at all times and shall pay",
    "for any damage caused by misuse. The landlord may enter the premises after giving written",
    "notice of at least two days.",
]


def read(path: Path) -> tuple[list[Page], Ending]:
    pages: list[Page] = []
    return pages, pdf.read(path, lambda total: pages.clear(), pages.append)


def blocks(path: Path) -> list[Block]:
    return list(read(path)[1].blocks)


def texts(path: Path, kind: str = "") -> list[str]:
    return [block.text for block in blocks(path) if not kind or block.kind == kind]


def test_lines_of_a_paragraph_are_joined(tmp_path: Path) -> None:
    """A paragraph reads as one line, whatever the page's width."""
    path = drawn(tmp_path / "a.pdf", lambda canvas: lines(canvas, PARAGRAPH))
    assert texts(path) == [" ".join(PARAGRAPH)]


def test_a_vertical_gap_parts_paragraphs(tmp_path: Path) -> None:
    """Blocks are separated by a blank line in the page's text."""

    def draw(canvas: Canvas) -> None:
        below = lines(canvas, PARAGRAPH)
        lines(canvas, PARAGRAPH, below - 10)

    pages, ending = read(drawn(tmp_path / "a.pdf", draw))
    assert pages[0].text == "\n\n".join([" ".join(PARAGRAPH)] * 2)
    assert [block.kind for block in ending.blocks] == ["paragraph", "paragraph"]


def test_every_character_leads_back_to_pdfium(tmp_path: Path) -> None:
    """The runs map the text onto pdfium's own characters, so a highlight is an offset and not a search."""

    def draw(canvas: Canvas) -> None:
        below = lines(canvas, ["Pay within thirty days of the in-", "voice date, else 1½ % a month.", "Café: m²."])
        row(canvas, ["Rent", "$ 1,200", "$ 1,300"], below - 30, [60, 300, 450])
        row(canvas, ["Deposit", "2,400", "2,600"], below - 45, [60, 300, 450])

    path = drawn(tmp_path / "a.pdf", draw)
    page = read(path)[0][0]
    with pypdfium2.PdfDocument(path) as document:
        source = pdf.characters(document[0].get_textpage())
    assert page.runs
    mapped = {run.start + step: source[run.source + step] for run in page.runs for step in range(run.length)}
    for offset, character in enumerate(page.text):
        assert mapped.get(offset, character) == character
    unmapped = "".join(character for offset, character in enumerate(page.text) if offset not in mapped)
    assert set(unmapped) <= set(" |\n")


def test_a_word_broken_at_a_line_end_is_whole_again(tmp_path: Path) -> None:
    """The hyphen goes when the word was broken, and stays in a compound the page writes with it."""
    broken = ["The parties agree that the govern-", "ment of the place is competent and that all long-"]
    path = drawn(
        tmp_path / "a.pdf", lambda canvas: lines(canvas, [*broken, "term debt, and no other long-term duty, is due."])
    )
    (text,) = texts(path)
    assert "the government of" in text
    assert "all long-term debt" in text


def test_a_table_keeps_its_rows_and_cells(tmp_path: Path) -> None:
    """Rows are lines, cells are set apart, a currency sign stays with its figure, the header row is known."""

    def draw(canvas: Canvas) -> None:
        lefts = [60, 300, 450]
        lines(canvas, PARAGRAPH)
        row(canvas, ["Product", "2022", "2023"], 600, lefts, "Helvetica-Bold")
        row(canvas, ["Phones", "$", "205"], 585, [60, 285, 300])
        canvas.drawString(450, 585, "$ 201")
        row(canvas, ["Tablets", "29", "28"], 570, lefts)

    table = next(block for block in blocks(drawn(tmp_path / "a.pdf", draw)) if block.kind == "table")
    assert table.text == "Product | 2022 | 2023\nPhones | $ 205 | $ 201\nTablets | 29 | 28"
    assert table.text[: table.header_end - table.start] == "Product | 2022 | 2023"


def test_list_items_are_blocks_of_their_own(tmp_path: Path) -> None:
    """Bullets and numbers begin an item each."""
    items = ["• Keep receipts for seven years.", "• File them by date.", "1. Then sign the form.", "2. Send it in."]
    path = drawn(tmp_path / "a.pdf", lambda canvas: lines(canvas, items))
    assert texts(path, "list") == items


def test_headings_form_a_trail(tmp_path: Path) -> None:
    """Larger and bold short lines are headings; what follows carries them, outermost first."""

    def draw(canvas: Canvas) -> None:
        below = lines(canvas, ["Travel policy"], size=18)
        below = lines(canvas, ["Hotels"], below - 12, font="Helvetica-Bold")
        below = lines(canvas, PARAGRAPH, below - 8)
        below = lines(canvas, ["Flights"], below - 12, font="Helvetica-Bold")
        lines(canvas, PARAGRAPH, below - 8)

    found = blocks(drawn(tmp_path / "a.pdf", draw))
    assert [(block.kind, block.level, block.headings) for block in found] == [
        ("heading", 1, ()),
        ("heading", 2, ("Travel policy",)),
        ("paragraph", 0, ("Travel policy", "Hotels")),
        ("heading", 2, ("Travel policy",)),
        ("paragraph", 0, ("Travel policy", "Flights")),
    ]


def test_the_outline_names_headings_that_type_does_not_show(tmp_path: Path) -> None:
    """A line of body type that the document's outline lists is a heading."""

    def draw(canvas: Canvas) -> None:
        canvas.bookmarkPage("duties")
        canvas.addOutlineEntry("Duties of the tenant", "duties", 0)
        below = lines(canvas, ["Duties of the tenant"])
        lines(canvas, PARAGRAPH, below - 10)

    assert texts(drawn(tmp_path / "a.pdf", draw), "heading") == ["Duties of the tenant"]


def test_bold_sentences_are_no_headings(tmp_path: Path) -> None:
    """A wrong heading is worse than none: sentences and figures in bold stay paragraphs."""

    def draw(canvas: Canvas) -> None:
        below = lines(canvas, PARAGRAPH * 3)
        for text in ("This is important.", "December 31, 2022", "$ 1,200 per month", "(unaudited)", "and then"):
            below = lines(canvas, [text], below - 14, font="Helvetica-Bold")

    assert texts(drawn(tmp_path / "a.pdf", draw), "heading") == []


def test_running_headers_and_page_numbers_are_left_out_of_blocks(tmp_path: Path) -> None:
    """What repeats on every page is kept in the page's text but is no part of any block."""

    def draw(number: int):  # type: ignore[no-untyped-def]
        def page(canvas: Canvas) -> None:
            lines(canvas, ["Example Ltd - Handbook"], 810)
            lines(canvas, [f"Section {number} says: pay {number * 17} within thirty days of receipt."], 700)
            lines(canvas, [f"Page {number} of 4"], 30)

        return page

    pages, ending = read(drawn(tmp_path / "a.pdf", *(draw(number) for number in range(1, 5))))
    assert "Handbook" in pages[2].text
    assert "Page 3 of 4" in pages[2].text
    assert [block.text[:9] for block in ending.blocks] == [f"Section {number}" for number in range(1, 5)]


@pytest.mark.parametrize("text", ["The annual fee is 12 euros.", "Original page {}"])
def test_lines_that_repeat_are_kept_where_pages_hold_nothing_else(tmp_path: Path, text: str) -> None:
    """What would leave most pages empty is no running header but the document's text."""
    said = [text.format(number) for number in range(1, 6)]
    assert texts(drawn(tmp_path / "a.pdf", *(partial(lines, texts=[line]) for line in said))) == said


def test_a_page_of_running_lines_alone_keeps_them(tmp_path: Path) -> None:
    """The pages that have other text lose theirs."""

    def draw(*body: str):  # type: ignore[no-untyped-def]
        def page(canvas: Canvas) -> None:
            lines(canvas, ["Fees are due in advance."], 810)
            lines(canvas, body, 700)

        return page

    pages = draw("The rent is due on Monday."), draw(), draw("Keep the receipt."), draw("Return the keys.")
    found = blocks(drawn(tmp_path / "a.pdf", *pages))
    assert [(block.page, block.text) for block in found] == [
        (1, "The rent is due on Monday."),
        (2, "Fees are due in advance."),
        (3, "Keep the receipt."),
        (4, "Return the keys."),
    ]


def test_marks_are_no_other_text(tmp_path: Path) -> None:
    """A stray mark on a page is no reason to take the page's only line away."""

    def page(canvas: Canvas) -> None:
        lines(canvas, ["The annual fee is 12 euros."], 700)
        lines(canvas, ["§"], 400)

    assert texts(drawn(tmp_path / "a.pdf", page, page, page)) == ["The annual fee is 12 euros."] * 3


def test_chapters_that_begin_pages_are_not_taken_for_running_headers(tmp_path: Path) -> None:
    """A figure that does not keep pace with the pages belongs to a heading."""

    def draw(text: str):  # type: ignore[no-untyped-def]
        def page(canvas: Canvas) -> None:
            lines(canvas, [text], 780, size=16)
            lines(canvas, PARAGRAPH, 740)

        return page

    heads = ["Chapter 1", "More on it", "Chapter 2", "Still more", "And the rest", "Chapter 3"]
    found = texts(drawn(tmp_path / "a.pdf", *(draw(head) for head in heads)), "heading")
    assert [text for text in found if text.startswith("Chapter")] == ["Chapter 1", "Chapter 2", "Chapter 3"]


def test_page_labels_are_what_the_document_prints(tmp_path: Path) -> None:
    """Roman and prefixed labels come through; without any, the number."""
    plain = drawn(tmp_path / "plain.pdf", *[lambda canvas: lines(canvas, PARAGRAPH)] * 3)
    writer = pypdf.PdfWriter(clone_from=plain)
    writer.set_page_label(0, 1, style="/r")
    writer.set_page_label(2, 2, style="/D", prefix="A-")
    labelled = tmp_path / "labelled.pdf"
    writer.write(labelled)
    assert [page.label for page in read(labelled)[0]] == ["i", "ii", "A-1"]
    assert [page.label for page in read(plain)[0]] == ["1", "2", "3"]


def test_pages_without_text_are_named_in_a_warning(tmp_path: Path) -> None:
    """The rest is read."""
    path = drawn(tmp_path / "a.pdf", lambda canvas: None, lambda canvas: lines(canvas, PARAGRAPH), lambda canvas: None)
    pages, ending = read(path)
    assert len(pages) == 3
    assert pdf.silent(ending.silent, 3, pictures=False)[0].startswith("Pages 1, 3 of 3 without text")


def test_a_file_without_any_text_says_so(tmp_path: Path) -> None:
    """A scan is refused with what to do about it."""
    with pytest.raises(UnreadableDocument, match=r"no text .* \(OCR\)"):
        read(drawn(tmp_path / "a.pdf", lambda canvas: canvas.rect(50, 50, 100, 100, fill=1)))


def test_a_file_of_marks_alone_has_no_text(tmp_path: Path) -> None:
    """Nothing of it could be found or cited."""
    with pytest.raises(UnreadableDocument, match="no text"):
        read(drawn(tmp_path / "a.pdf", lambda canvas: lines(canvas, ["§"])))


def test_marks_alone_are_no_text_without_positions_either(tmp_path: Path) -> None:
    """The second try refuses them as the first does."""
    path = tmp_path / "late.pdf"
    path.write_bytes(worded("***", before=b"x" * 3000 + b"\n"))
    with pytest.raises(UnreadableDocument, match="no text"):
        read(path)


def encrypted(tmp_path: Path, user: str) -> Path:
    writer = pypdf.PdfWriter(clone_from=drawn(tmp_path / "plain.pdf", lambda canvas: lines(canvas, PARAGRAPH)))
    writer.encrypt(user_password=user, owner_password="owner", algorithm="AES-256")
    path = tmp_path / "encrypted.pdf"
    writer.write(path)
    return path


def test_a_file_that_needs_a_password_says_so(tmp_path: Path) -> None:
    """And not that it is damaged."""
    with pytest.raises(UnreadableDocument, match="needs a password"):
        read(encrypted(tmp_path, "secret"))


def test_an_encryption_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A foreign security handler is no damage, and no password would help."""
    path = encrypted(tmp_path, "")
    path.write_bytes(path.read_bytes().replace(b"/Filter /Standard", b"/Filter /Elsewher"))
    with pytest.raises(UnreadableDocument, match="is encrypted"):
        read(path)


def test_a_file_encrypted_against_changes_only_is_read(tmp_path: Path) -> None:
    """The empty password opens it."""
    assert texts(encrypted(tmp_path, "")) == [" ".join(PARAGRAPH)]


def test_what_pdfium_refuses_is_read_by_pypdf(tmp_path: Path) -> None:
    """Junk before the header stops pdfium; the second try gives text without positions, and a warning."""
    path = tmp_path / "late.pdf"
    path.write_bytes(worded("Pay within thirty days.", before=b"x" * 3000 + b"\n"))
    pages, ending = read(path)
    assert pages[0].runs is None
    assert [block.text for block in ending.blocks] == ["Pay within thirty days."]
    assert "without positions" in ending.warnings[0]


@pytest.mark.parametrize("keep", [40, 200, 600])
def test_a_truncated_file_is_damaged(tmp_path: Path, keep: int) -> None:
    """However early it breaks off, the reason is a sentence."""
    path = drawn(tmp_path / "a.pdf", lambda canvas: lines(canvas, PARAGRAPH))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableDocument, match=r"damaged|no pages"):
        read(path)


def test_a_page_listed_too_often_is_too_many_pages(tmp_path: Path) -> None:
    """The limit is checked before anything is read."""
    count = MAX_PAGES + 1
    path = tmp_path / "many.pdf"
    path.write_bytes(
        raw(
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[%s]/Count %d>>" % (b"3 0 R " * count, count),
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>",
        )
    )
    with pytest.raises(UnreadableDocument, match="10,001 pages"):
        read(path)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_type_turned_on_the_page_is_still_paragraphs(tmp_path: Path, rotation: int) -> None:
    """A landscape page is stored turned; its lines are joined all the same."""

    def draw(canvas: Canvas) -> None:
        canvas.translate(300, 420)
        canvas.rotate(rotation)
        below = lines(canvas, PARAGRAPH, 100, -250, 8)
        lines(canvas, PARAGRAPH, below - 10, -250, 8)

    assert texts(drawn(tmp_path / "a.pdf", draw, rotation=rotation)) == [" ".join(PARAGRAPH)] * 2


def test_blocks_are_exactly_their_place_in_the_page(tmp_path: Path) -> None:
    """`block.text` is `page.text[start:end]`, in reading order without overlap."""

    def draw(canvas: Canvas) -> None:
        below = lines(canvas, ["Part I"], size=16)
        below = lines(canvas, ["• one", "• two"], below - 10)
        lines(canvas, PARAGRAPH, below - 10)

    pages, ending = read(drawn(tmp_path / "a.pdf", draw, draw))
    texts_by_page = {page.number: page.text for page in pages}
    places = [(block.page, block.start, block.end) for block in ending.blocks]
    assert places == sorted(places)
    assert all(block.text == texts_by_page[block.page][block.start : block.end] for block in ending.blocks)
