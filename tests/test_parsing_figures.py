"""Pictures are taken out of documents with the words beside them, within bounds, and nothing is fetched."""

import base64
import io
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docx
import PIL.Image
import PIL.ImageChops
import PIL.ImageDraw
import pypdf
import pytest
from docx.document import Document
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from rag.domain import DOCX, PDF, Block, Figure, Page, Parsed
from rag.errors import UnreadableDocument
from rag.parsing import encode, figures
from rag.parsing.figures import Box
from rag.parsing.pictures import Pictures
from rag.parsing.reader import PICTURES_FAILED, Reader
from rag.stopping import Stop
from tests.children import children_of
from tests.pdfs import HEIGHT, WIDTH, drawn, lines

PARAGRAPH = [
    "The pump is serviced once a year by somebody who has read the manual and knows what each valve is for.",
    "What was found is written into the book that hangs beside it, with the date and the name of the person.",
]
RED, BLUE, GREEN = (200, 30, 30), (30, 30, 200), (30, 160, 30)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    opened = Reader(processes=1)
    yield opened
    opened.close()


@pytest.fixture
def read(reader: Reader) -> Callable[[Path], Parsed]:
    """Reads a file with its pictures."""

    def reading(path: Path) -> Parsed:
        media_type = DOCX if path.suffix == ".docx" else PDF
        return reader.read(path, media_type, lambda done, total: None, Stop(), figures=True)

    return reading


def picture(colour: tuple[int, int, int] = RED, size: tuple[int, int] = (300, 200)) -> PIL.Image.Image:
    """A black disc on a coloured ground."""
    made = PIL.Image.new("RGB", size, colour)
    PIL.ImageDraw.Draw(made).ellipse((size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), fill="black")
    return made


def encoded(made: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    made.save(buffer, kind, **options)
    return buffer.getvalue()


def show(canvas: Canvas, made: PIL.Image.Image, left: float, bottom: float, width: float, height: float) -> None:
    canvas.drawImage(ImageReader(io.BytesIO(encoded(made))), left, bottom, width, height)


def opened(figure: Figure) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(figure.image.data))


def colour_at(figure: Figure, x: float, y: float) -> tuple[int, ...]:
    """The colour at shares of width and height, rounded to what survives JPEG."""
    made = opened(figure).convert("RGB")
    pixel = made.getpixel((int(x * (made.width - 1)), int(y * (made.height - 1))))
    assert isinstance(pixel, tuple)
    return tuple(round(value / 50) * 50 for value in pixel)


# ---------------------------------------------------------------- boxes and captions

SHEET = Box(0, 0, 1000, 1000)


def text(words: str, kind: str = "paragraph", headings: tuple[str, ...] = ()) -> Block:
    return Block(kind, words, 1, 0, len(words), headings)  # type: ignore[arg-type]


def test_slices_of_a_picture_are_one_box() -> None:
    """Strips that touch are merged, also when the one that joins them comes last."""
    strips = [Box(100, 100, 400, 200), Box(600, 100, 800, 300), Box(100, 302, 400, 400), Box(100, 201, 400, 301)]
    assert figures.merged(strips) == [Box(600, 100, 800, 300), Box(100, 100, 400, 400)]


def test_icons_and_rules_are_no_figures() -> None:
    """A figure has 100 pixels at either edge and three hundredths of the page."""
    boxes = [Box(0, 0, 90, 900), Box(200, 0, 350, 150), Box(400, 0, 600, 200)]
    assert figures.figure_boxes(boxes, SHEET) == [Box(400, 0, 600, 200)]


def test_a_background_is_no_figure_and_hides_none() -> None:
    """Whether it is one picture or many slices; what lies on a whole one is found."""
    figure = Box(100, 100, 400, 400)
    assert figures.figure_boxes([Box(-5, -5, 1000, 1000), figure], SHEET) == [figure]
    assert figures.figure_boxes([Box(0, 0, 1000, 500), Box(0, 500, 1000, 1000)], SHEET) == []


def test_what_lies_off_the_page_does_not_count() -> None:
    """A picture is as large as what can be seen of it."""
    assert figures.figure_boxes([Box(900, 0, 1900, 1000), Box(950, 0, 1900, 1000)], SHEET) == [Box(900, 0, 1000, 1000)]
    assert figures.figure_boxes([Box(1100, 0, 1900, 1000)], SHEET) == []


@pytest.mark.parametrize(
    "words", ["Figure 3: Sales", "FIG. 2. A pump", "Fig.4", "Table IV", "Abbildung 1", "Abb. 7", "Figure A.1", "图 1"]
)
def test_captions_are_known_by_how_they_begin(words: str) -> None:
    """A name and a number, in several languages."""
    assert figures.names_figure(words)


@pytest.mark.parametrize("words", ["Table of contents", "Figures show that", "Map a route", "As Figure 3 shows", "42"])
def test_other_text_is_no_caption(words: str) -> None:
    """A name alone is an ordinary word."""
    assert not figures.names_figure(words)


FIGURE = Box(200, 300, 600, 500)


def test_the_nearest_named_text_is_the_caption() -> None:
    """Before any closer text that names nothing."""
    texts = [
        (Box(200, 505, 600, 520), text("Read on.")),
        (Box(200, 530, 400, 545), text("Figure 2: The pump")),
        (Box(200, 560, 400, 575), text("Figure 3: The valve")),
    ]
    found = figures.caption(FIGURE, texts)
    assert found
    assert found.text == "Figure 2: The pump"


def test_a_caption_below_comes_before_one_above() -> None:
    """Above stands the caption of the figure before, if it is not clearly nearer."""
    above = (Box(200, 270, 400, 285), text("Figure 1: Before"))
    below = (Box(200, 520, 400, 535), text("Figure 2: Below"))
    assert figures.caption(FIGURE, [above, below]) is below[1]
    nearer = (Box(200, 280, 400, 296), text("Figure 2: Above"))
    assert figures.caption(FIGURE, [nearer, below]) is nearer[1]


def test_a_caption_stands_near_and_in_the_same_column() -> None:
    """Text far away or beside the figure says nothing about it."""
    far = (Box(200, 700, 400, 715), text("Figure 2: Far"))
    beside = (Box(650, 520, 900, 535), text("Figure 3: Beside"))
    assert figures.caption(FIGURE, [far, beside]) is None


def test_a_short_text_centred_on_a_figure_is_its_caption() -> None:
    """Where nothing has a number; running text begins at the margin."""
    centred = (Box(330, 510, 470, 525), text("Our head office"))
    running = (Box(200, 510, 340, 525), text("Revenue Summary"))
    long = (Box(200, 510, 600, 560), text("word " * 60))
    assert figures.caption(FIGURE, [centred]) is centred[1]
    assert figures.caption(FIGURE, [running, long]) is None


def test_the_headings_are_those_above_the_figure() -> None:
    """Of the last text above it in its column, a heading included; else those of the page before."""
    texts = [
        (Box(200, 100, 400, 120), text("Pumps", "heading", ("Manual",))),
        (Box(700, 150, 900, 170), text("Elsewhere", "heading")),
        (Box(200, 600, 400, 620), text("Valves", "heading", ("Manual",))),
    ]
    assert figures.trail(FIGURE, texts, None) == ("Manual", "Pumps")
    assert figures.trail(FIGURE, texts[2:], text("Words.", headings=("Preface",))) == ("Preface",)


# ---------------------------------------------------------------- PDF


def test_a_picture_is_cut_out_of_its_page_with_caption_and_headings(
    read: Callable[[Path], Parsed], tmp_path: Path
) -> None:
    """What readers see there, and the words below it."""

    def draw(canvas: Canvas) -> None:
        below = lines(canvas, ["Pumps"], size=18)
        lines(canvas, PARAGRAPH, below - 10)
        show(canvas, picture(), 100, 400, 300, 200)
        lines(canvas, ["Figure 1: The pump from above"], 380, left=100)
        lines(canvas, PARAGRAPH, 340)

    parsed = read(drawn(tmp_path / "a.pdf", draw))
    (figure,) = parsed.figures
    assert (figure.page, figure.label, figure.whole_page) == (1, "1", False)
    assert figure.caption == "Figure 1: The pump from above"
    assert figure.headings == ("Pumps",)
    assert opened(figure).size == pytest.approx((900, 600), abs=2)
    assert colour_at(figure, 0.02, 0.02) == colour_at(figure, 0.98, 0.98) == (200, 50, 50)
    assert colour_at(figure, 0.37, 0.37) == (0, 0, 0)
    assert [block.kind for block in parsed.blocks] == ["heading", "paragraph", "paragraph", "paragraph"]


def test_without_asking_there_are_no_pictures(reader: Reader, tmp_path: Path) -> None:
    """And the text is the same with them."""

    def draw(canvas: Canvas) -> None:
        lines(canvas, PARAGRAPH)
        show(canvas, picture(), 100, 400, 300, 200)

    path = drawn(tmp_path / "a.pdf", draw)
    plain = reader.read(path, PDF, lambda done, total: None, Stop())
    pictured = reader.read(path, PDF, lambda done, total: None, Stop(), figures=True)
    assert plain.figures == ()
    assert len(pictured.figures) == 1
    assert (plain.pages, plain.blocks, plain.warnings) == (pictured.pages, pictured.blocks, pictured.warnings)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_turned_page_gives_the_picture_as_seen(read: Callable[[Path], Parsed], tmp_path: Path, rotation: int) -> None:
    """The box is found wherever the turn puts it, here with the disc in another corner each time."""

    def draw(canvas: Canvas) -> None:
        lines(canvas, PARAGRAPH)
        show(canvas, picture(size=(200, 200)), 80, 300, 200, 200)

    (figure,) = read(drawn(tmp_path / "a.pdf", draw, rotation=rotation)).figures
    corners = {0: (0.37, 0.37), 90: (0.63, 0.37), 180: (0.63, 0.63), 270: (0.37, 0.63)}
    assert colour_at(figure, *corners[rotation]) == (0, 0, 0)
    assert colour_at(figure, 0.02, 0.02) == colour_at(figure, 0.98, 0.98) == (200, 50, 50)


def test_a_picture_in_a_form_and_behind_a_clip_is_as_large_as_seen(
    read: Callable[[Path], Parsed], tmp_path: Path
) -> None:
    """Forms have coordinates of their own, and authors crop by clipping."""

    def draw(canvas: Canvas) -> None:
        canvas.beginForm("f", 0, 0, 200, 200)
        show(canvas, picture(size=(200, 200)), 0, 0, 100, 100)
        canvas.endForm()
        lines(canvas, PARAGRAPH)
        canvas.saveState()
        canvas.translate(60, 400)
        canvas.scale(2, 2)
        canvas.doForm("f")
        canvas.restoreState()
        clip = canvas.beginPath()
        clip.rect(150, 100, 150, 200)
        canvas.clipPath(clip, stroke=0)
        show(canvas, picture(BLUE), 100, 50, 480, 300)

    first, second = read(drawn(tmp_path / "a.pdf", draw)).figures
    assert opened(first).size == pytest.approx((600, 600), abs=2)
    assert colour_at(first, 0.98, 0.98) == (200, 50, 50)
    assert opened(second).size == pytest.approx((450, 600), abs=2)
    assert colour_at(second, 0.02, 0.02) == (50, 50, 200)


def test_a_page_without_text_is_a_picture(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """The others stay text; a blank page is neither, and is named."""
    scan = drawn(
        tmp_path / "a.pdf",
        lambda canvas: lines(canvas, ["Pumps", *PARAGRAPH]),
        lambda canvas: canvas.rect(50, 50, 300, 500, fill=1),
        lambda canvas: None,
    )
    parsed = read(scan)
    (figure,) = parsed.figures
    assert (figure.page, figure.whole_page, figure.caption) == (2, True, "")
    assert max(opened(figure).size) == figures.LONGEST_PAGE_EDGE
    assert parsed.warnings == ("Page 3 of 3 without text or picture: nothing there can be found or cited.",)


def test_a_file_of_pictures_alone_is_readable(reader: Reader, read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """With pictures wanted; without, the refusal says what helps."""
    path = drawn(tmp_path / "a.pdf", *[lambda canvas: canvas.rect(50, 50, 300, 500, fill=1)] * 2)
    parsed = read(path)
    assert parsed.blocks == ()
    assert len(parsed.pages) == 2
    assert [figure.page for figure in parsed.figures] == [1]  # the second is the same picture
    with pytest.raises(UnreadableDocument, match="turn on pictures"):
        reader.read(path, PDF, lambda done, total: None, Stop())


def test_a_blank_file_has_nothing_to_search(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """White pages are no pictures."""
    with pytest.raises(UnreadableDocument, match="no text, and no pictures"):
        read(drawn(tmp_path / "a.pdf", lambda canvas: None))


def test_a_scan_with_a_stamp_is_a_picture(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """A number printed onto a scan is not its text; a background behind much text is no figure."""

    def stamped(canvas: Canvas) -> None:
        show(canvas, picture(), 0, 0, WIDTH, HEIGHT)
        lines(canvas, ["ABC-000123"], 30)

    def written(canvas: Canvas) -> None:
        show(canvas, picture(BLUE), 0, 0, WIDTH, HEIGHT)
        lines(canvas, PARAGRAPH * 3)

    parsed = read(drawn(tmp_path / "a.pdf", stamped, written))
    assert [(figure.page, figure.whole_page) for figure in parsed.figures] == [(1, True)]


def test_what_repeats_on_pages_is_a_logo(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """Three pages make it one; on two it is a figure, taken once."""

    def draw(number: int) -> Callable[[Canvas], None]:
        def page(canvas: Canvas) -> None:
            lines(canvas, [f"Chapter {number} says something about pumps and what they are good for."])
            show(canvas, picture(), 60, 500, 200, 150)
            if number < 3:
                show(canvas, picture(BLUE), 60, 200, 200, 150)

        return page

    found = read(drawn(tmp_path / "a.pdf", *map(draw, (1, 2, 3)))).figures
    assert [(figure.page, colour_at(figure, 0.02, 0.02)) for figure in found] == [(1, (50, 50, 200))]


def test_unsound_pictures_do_not_cost_the_text(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read stays, with a warning."""
    path = drawn(
        tmp_path / "a.pdf", lambda canvas: (lines(canvas, PARAGRAPH), show(canvas, picture(), 60, 300, 300, 200))
    )
    monkeypatch.setattr("rag.parsing.pictures.MAX_FIGURE_BYTES", 10)
    parsed = reader.read(path, PDF, lambda done, total: None, Stop(), figures=True)
    assert (len(parsed.blocks), parsed.figures, parsed.warnings) == (1, (), (PICTURES_FAILED,))


def test_pictures_beyond_the_limit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning says how many are left out."""
    from rag.parsing import figures_pdf, pdf  # noqa: PLC0415  (beside the child, so that the limit is ours)

    monkeypatch.setattr("rag.parsing.budget.MAX_FIGURES", 2)
    path = drawn(
        tmp_path / "a.pdf",
        *[
            lambda canvas, colour=colour: (lines(canvas, PARAGRAPH), show(canvas, picture(colour), 60, 300, 300, 200))
            for colour in (RED, BLUE, GREEN)
        ],
    )
    pages: list[Page] = []
    ending = pdf.read(path, lambda total: None, pages.append)
    found: list[Figure] = []
    warnings = figures_pdf.read(path, pages, ending.blocks, found.append)
    assert [figure.page for figure in found] == [1, 2]
    assert warnings == ("1 picture was left out: damaged, or more than the 2 or 64 MB that are searched.",)


def test_pictures_that_take_too_long_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a warning; the time for text is not theirs."""
    from rag.parsing import figures_pdf  # noqa: PLC0415  (beside the child, so that the limit is ours)

    monkeypatch.setattr("rag.parsing.budget.MAX_FIGURE_SECONDS", -1.0)
    path = drawn(tmp_path / "a.pdf", lambda canvas: show(canvas, picture(), 60, 300, 300, 200))
    found: list[Figure] = []
    warnings = figures_pdf.read(path, [Page(1, "1", "", None)], [], found.append)
    assert found == []
    assert warnings == ("Taking the pictures out of this file took too long; some were left out.",)


@pytest.mark.parametrize("closing", [False, True])
def test_text_outlives_a_child_that_dies_over_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closing: bool
) -> None:
    """What came before is kept, with a warning; but a reader that is closed has read nothing."""

    def draw(canvas: Canvas) -> None:
        lines(canvas, PARAGRAPH)
        # Noise makes files that do not fit into the pipe together, so the child cannot have told all.
        for row in range(3):
            noise = PIL.Image.effect_noise((450, 300), 100 + row).convert("RGB")
            show(canvas, noise, 60, 60 + 220 * row, 300, 200)

    dying = Reader(processes=1)
    taken = Pictures.add

    def last(pictures: Pictures, message: dict[str, object], pages: list[Page]) -> None:
        taken(pictures, message, pages)
        if closing:
            dying.close()
        for child in children_of(os.getpid()) - before:
            os.kill(child, signal.SIGKILL)

    before = children_of(os.getpid())
    monkeypatch.setattr(Pictures, "add", last)
    path = drawn(tmp_path / "a.pdf", draw)

    def reading() -> Parsed:
        return dying.read(path, PDF, lambda done, total: None, Stop(), figures=True)

    if closing:
        with pytest.raises(UnreadableDocument):
            reading()
    else:
        parsed = reading()
        assert (len(parsed.blocks), len(parsed.figures), parsed.warnings) == (1, 1, (PICTURES_FAILED,))
    dying.close()


def test_a_file_that_cannot_be_opened_stays_unreadable(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """Pictures are no way around a password."""
    writer = pypdf.PdfWriter(clone_from=drawn(tmp_path / "plain.pdf", lambda canvas: lines(canvas, PARAGRAPH)))
    writer.encrypt(user_password="secret", algorithm="AES-256")
    writer.write(tmp_path / "a.pdf")
    with pytest.raises(UnreadableDocument, match="needs a password"):
        read(tmp_path / "a.pdf")


# ---------------------------------------------------------------- Word

W = nsdecls("w")


def saved(document: Document, tmp_path: Path) -> Path:
    path = tmp_path / "a.docx"
    document.save(str(path))
    return path


def add(document: Document, data: bytes, description: str = "") -> None:
    shape = document.add_picture(io.BytesIO(data))
    shape._inline.docPr.set("descr", description)


def test_pictures_of_a_word_file_come_in_order(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """Each once, with the caption beside it, its alternative text and the headings above."""
    document = docx.Document()
    document.add_heading("Pumps", 1)
    document.add_paragraph("They pump.")
    add(document, encoded(picture()), "A red pump")
    document.add_paragraph("Figure 1: The pump", style="Caption")
    document.add_heading("Valves", 1)
    add(document, encoded(picture(BLUE), "BMP"))
    document.add_paragraph("The valve", style="Caption")
    add(document, encoded(picture()))
    parsed = read(saved(document, tmp_path))
    assert [(figure.caption, figure.headings) for figure in parsed.figures] == [
        ("Figure 1: The pump – A red pump", ("Pumps",)),
        ("The valve", ("Valves",)),
    ]
    assert [(figure.page, figure.label, figure.whole_page) for figure in parsed.figures] == [(1, "", False)] * 2
    assert [colour_at(figure, 0.02, 0.02) for figure in parsed.figures] == [(200, 50, 50), (50, 50, 200)]


def test_captions_above_are_told_from_captions_below(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """The first or last picture of a document shows which way its captions stand."""
    document = docx.Document()
    for number, colour in enumerate((RED, BLUE), 1):
        document.add_paragraph(f"Figure {number}: Above", style="Caption")
        add(document, encoded(picture(colour)))
    assert [figure.caption for figure in read(saved(document, tmp_path)).figures] == [
        "Figure 1: Above",
        "Figure 2: Above",
    ]


def test_a_word_file_of_pictures_alone_is_readable(
    reader: Reader, read: Callable[[Path], Parsed], tmp_path: Path
) -> None:
    """One page without text, and its pictures."""
    document = docx.Document()
    add(document, encoded(picture()))
    path = saved(document, tmp_path)
    parsed = read(path)
    assert (len(parsed.pages), parsed.blocks, len(parsed.figures)) == (1, (), 1)
    with pytest.raises(UnreadableDocument, match="Turn on pictures"):
        reader.read(path, DOCX, lambda done, total: None, Stop())


def test_small_and_blank_pictures_are_left_out(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """Icons and white boxes."""
    document = docx.Document()
    document.add_paragraph("Text.")
    add(document, encoded(picture(size=(99, 400))))
    add(document, encoded(PIL.Image.new("RGB", (300, 300), "white")))
    parsed = read(saved(document, tmp_path))
    assert (parsed.figures, parsed.warnings) == ((), ())


def test_what_cannot_be_decoded_is_counted(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """Damaged pictures and kinds that are not decoded here; the rest is read."""
    document = docx.Document()
    document.add_paragraph("Text.")
    add(document, encoded(picture()))
    add(document, encoded(picture(BLUE)))
    path = saved(document, tmp_path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents["word/media/image1.png"] = b"\x01\x00\x00\x00 no picture at all"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    parsed = read(path)
    assert [colour_at(figure, 0.02, 0.02) for figure in parsed.figures] == [(50, 50, 200)]
    assert parsed.warnings[0].startswith("1 picture is damaged")


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/a.png", "file:///etc/hostname", "../../../etc/hostname"])
def test_what_stands_outside_the_file_is_never_fetched(
    read: Callable[[Path], Parsed], tmp_path: Path, target: str
) -> None:
    """Neither by a link nor by a relationship that points out of the zip."""
    document = docx.Document()
    document.add_paragraph("Text.")
    add(document, encoded(picture()))
    path = saved(document, tmp_path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    name = "word/_rels/document.xml.rels"
    contents[name] = contents[name].replace(b'"media/image1.png"', f'"{target}" TargetMode="External"'.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in contents.items():
            archive.writestr(each, data)
    assert target.encode() in contents[name]
    parsed = read(path)
    assert (parsed.figures, parsed.warnings) == ((), ())


def test_what_the_author_cropped_is_not_shown(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """Readers of the document do not see it either."""
    document = docx.Document()
    made = picture(size=(400, 400))
    made.paste(BLUE, (0, 0, 100, 400))
    add(document, encoded(made))
    blip_fill = next(document.element.body.iter("{*}blipFill"))
    blip_fill.insert(1, parse_xml(f"<a:srcRect {nsdecls('a')} l='25000' t='0' r='0' b='0'/>"))
    (figure,) = read(saved(document, tmp_path)).figures
    assert opened(figure).size == (300, 400)
    assert colour_at(figure, 0.02, 0.02) == (200, 50, 50)


def test_older_pictures_and_those_in_tables_are_found(read: Callable[[Path], Parsed], tmp_path: Path) -> None:
    """VML, which Word 2003 wrote, and a cell beside text; deleted ones are gone."""
    document = docx.Document()
    table = document.add_table(1, 2)
    table.cell(0, 0).text = "Left"
    table.cell(0, 1).paragraphs[0].add_run().add_picture(io.BytesIO(encoded(picture())))
    relationship, _ = document.part.get_or_add_image(io.BytesIO(encoded(picture(BLUE))))
    deleted, _ = document.part.get_or_add_image(io.BytesIO(encoded(picture(GREEN))))
    shown = (
        "<w:r><w:pict xmlns:v='urn:schemas-microsoft-com:vml'><v:shape alt='A valve'>"
        "<v:imagedata r:id='{}'/></v:shape></w:pict></w:r>"
    )
    body = document.element.body
    xml = f"<w:p {nsdecls('w', 'r')}>{shown.format(relationship)}<w:del>{shown.format(deleted)}</w:del></w:p>"
    body.insert(len(body) - 1, parse_xml(xml))
    found = read(saved(document, tmp_path)).figures
    assert [(figure.caption, colour_at(figure, 0.02, 0.02)) for figure in found] == [
        ("", (200, 50, 50)),
        ("A valve", (50, 50, 200)),
    ]


# ---------------------------------------------------------------- encoding


def test_a_picture_is_decoded_as_seen_and_without_what_was_written_into_it() -> None:
    """Turned as the camera was held; comments, places and profiles are gone."""
    made = picture(size=(400, 200))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # held upright
    exif[0x010E] = "secret"
    data = encoded(made, "JPEG", exif=exif, comment=b"secret", icc_profile=b"secret profile")
    decoded = encode.decoded(data, 1024)
    assert decoded
    assert decoded.size == (200, 400)
    image = encode.bounded(decoded, 1024)
    assert image
    assert b"secret" in data
    assert b"secret" not in image.data
    assert not PIL.Image.open(io.BytesIO(image.data)).info.get("exif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_plain_colour(mode: str) -> None:
    """Black on light stays black on light; what is transparent is white."""
    if mode == "I;16":
        made = PIL.Image.new("I;16", (200, 200), 65535)
        made.paste(0, (50, 50, 150, 150))
    else:
        made = PIL.Image.new("L", (200, 200), 255)
        made.paste(0, (50, 50, 150, 150))
        made = made.convert("RGBA" if mode == "P" else mode)
        if mode in {"LA", "RGBA", "P"}:
            made.putalpha(PIL.ImageChops.invert(made.convert("L")))
        made = made.quantize(4) if mode == "P" else made
    decoded = encode.decoded(encoded(made, "TIFF" if mode == "CMYK" else "PNG"), 1024)
    assert decoded
    assert decoded.mode == "RGB"
    assert decoded.getpixel((2, 2)) == (255, 255, 255)
    assert decoded.getpixel((100, 100)) == (0, 0, 0)


def test_a_decompression_bomb_is_not_decoded() -> None:
    """A few kilobytes that would be 64 million pixels."""
    assert encode.decoded(encoded(PIL.Image.new("1", (8_000, 8_000))), 1024) is None


def test_pictures_are_bounded_in_pixels_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise, which compresses worst, is made smaller; when that does not help it is dropped."""
    noise = PIL.Image.effect_noise((2000, 1000), 200).convert("RGB")
    image = encode.bounded(noise, 1024)
    assert image
    assert PIL.Image.open(io.BytesIO(image.data)).size == (1024, 512)
    monkeypatch.setattr("rag.parsing.encode.MAX_FIGURE_BYTES", len(image.data) - 1)
    smaller = encode.bounded(noise, 1024)
    assert smaller
    assert PIL.Image.open(io.BytesIO(smaller.data)).size == (716, 358)
    monkeypatch.setattr("rag.parsing.encode.MAX_FIGURE_BYTES", 1000)
    assert encode.bounded(noise, 1024) is None


def test_a_thread_is_no_picture() -> None:
    """What would be a few pixels thin is dropped."""
    assert encode.bounded(picture(size=(3000, 100)), 1024)
    assert encode.bounded(picture(size=(10_000, 100)), 1024) is None


def test_specks_on_paper_are_blank() -> None:
    """A page number or a scanner's dust is nothing to see; a line of type is."""
    page = PIL.Image.new("RGB", (900, 1200), "white")
    draw = PIL.ImageDraw.Draw(page)
    draw.rectangle((450, 1150, 460, 1165), fill="black")
    assert encode.blank(page)
    draw.rectangle((100, 100, 400, 115), fill="black")
    assert not encode.blank(page)


# ---------------------------------------------------------------- the parent does not trust the child

SHEETS = (Page(1, "i", "", None),)


def message(**changed: object) -> dict[str, object]:
    said = {
        "kind": "figure",
        "page": 1,
        "whole_page": False,
        "media_type": "image/png",
        "image": base64.b64encode(encoded(picture())).decode(),
        "caption": "Figure 1",
        "headings": ["Pumps"],
    }
    return said | changed


def test_a_sound_picture_is_taken() -> None:
    """With the label of its page."""
    pictures = Pictures()
    pictures.add(message(), SHEETS)
    (figure,) = pictures.found
    assert (figure.label, figure.caption, figure.headings) == ("i", "Figure 1", ("Pumps",))


@pytest.mark.parametrize(
    "changed",
    [
        {"page": 2},
        {"page": "1"},
        {"whole_page": 1},
        {"media_type": "image/svg+xml"},
        {"media_type": "image/jpeg"},
        {"media_type": ["image/png"]},
        {"image": base64.b64encode(b"<svg/>").decode()},
        {"image": "not base64"},
        {"image": None},
        {"image": base64.b64encode(encoded(picture()) + bytes(1024**2)).decode()},
        {"caption": None},
        {"caption": "x" * 1001},
        {"headings": "Pumps"},
        {"headings": [1]},
        {"headings": ["Pumps"] * 21},
    ],
)
def test_an_unsound_picture_is_refused(changed: dict[str, object]) -> None:
    """Whatever about it is not what it must be."""
    with pytest.raises(UnreadableDocument):
        Pictures().add(message(**changed), SHEETS)


def test_too_many_pictures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by size together."""
    monkeypatch.setattr("rag.parsing.pictures.MAX_FIGURES", 1)
    pictures = Pictures()
    pictures.add(message(), SHEETS)
    with pytest.raises(UnreadableDocument):
        pictures.add(message(), SHEETS)
    monkeypatch.setattr("rag.parsing.pictures.MAX_FIGURES", 9)
    monkeypatch.setattr("rag.parsing.pictures.MAX_FIGURES_BYTES", 10)
    with pytest.raises(UnreadableDocument):
        Pictures().add(message(), SHEETS)
