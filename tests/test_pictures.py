"""Page pictures show the very words that are cited."""

import io
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pytest
from PIL import Image, ImageChops
from reportlab.pdfgen.canvas import Canvas

from rag.domain import PDF, Page
from rag.errors import UnreadableDocument
from rag.parsing.reader import Reader
from rag.pictures import Picture, Pictures
from rag.stopping import Stop
from tests.pdfs import HEIGHT, WIDTH, drawn, lines

TOP = "The first line is not cited here."
CITED = "This sentence is the one that counts."


@pytest.fixture(scope="module")
def pictures() -> Iterator[Pictures]:
    opened = Pictures()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    opened = Reader(processes=1)
    yield opened
    opened.close()


def draw(canvas: Canvas) -> None:
    lines(canvas, [TOP], 700, 60, 12)
    lines(canvas, [CITED], 300, 60, 12)


def read(reader: Reader, path: Path) -> Page:
    return reader.read(path, PDF, lambda done, total: None, Stop()).pages[0]


def span(page: Page) -> list[tuple[int, int]]:
    start = page.text.index(CITED)
    return [(start, start + len(CITED))]


def opened(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.image)).convert("RGB")


def lit(image: Image.Image) -> tuple[int, int, int, int]:
    """The box of yellow pixels."""
    red, _, blue = image.split()
    mask = ImageChops.multiply(
        red.point(lambda value: 255 * (value > 200)), blue.point(lambda value: 255 * (value < 170))
    )
    box = mask.getbbox()
    assert box
    return box


def test_the_cited_sentence_is_lit_where_it_stands(pictures: Pictures, reader: Reader, tmp_path: Path) -> None:
    """And nothing else: the box of yellow is the sentence's."""
    path = drawn(tmp_path / "a.pdf", draw)
    page = read(reader, path)
    picture = pictures.page(path, page, span(page), 600)
    image = opened(picture)
    assert picture.marked
    assert image.width == 600
    scale = 600 / WIDTH
    left, top, right, bottom = lit(image)
    assert left == pytest.approx(60 * scale, abs=4)
    assert bottom == pytest.approx((HEIGHT - 300) * scale, abs=6)
    assert (HEIGHT - 300 - 14) * scale < top < bottom
    assert right < 320 * scale


def test_type_stays_black_under_the_mark(pictures: Pictures, reader: Reader, tmp_path: Path) -> None:
    """The mark multiplies, as ink on paper does."""
    path = drawn(tmp_path / "a.pdf", draw)
    page = read(reader, path)
    image = opened(pictures.page(path, page, span(page), 900))
    darkest = min(sum(pixel) for pixel in image.crop(lit(image)).get_flattened_data())
    assert darkest < 120


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_turned_pages_are_lit_in_the_right_place(
    pictures: Pictures, reader: Reader, tmp_path: Path, rotation: int
) -> None:
    """The sentence's box turns with the page."""
    writer = pypdf.PdfWriter(clone_from=drawn(tmp_path / "upright.pdf", draw))
    writer.pages[0].rotate(rotation)
    path = tmp_path / "turned.pdf"
    writer.write(path)
    page = read(reader, path)
    image = opened(pictures.page(path, page, span(page), 600))
    left, top, right, bottom = lit(image)
    horizontal, vertical = (left + right) / 2 / image.width, (top + bottom) / 2 / image.height
    middle = 165 / WIDTH
    height = 1 - 303 / HEIGHT
    expected = {90: (1 - height, middle), 180: (1 - middle, 1 - height), 270: (height, 1 - middle)}[rotation]
    assert (horizontal, vertical) == pytest.approx(expected, abs=0.03)


def test_a_cropped_page_is_lit_in_the_right_place(pictures: Pictures, reader: Reader, tmp_path: Path) -> None:
    """Only the crop box is shown; the mark moves with it."""

    def cropped(canvas: Canvas) -> None:
        canvas.setCropBox((50, 250, 350, 550))
        draw(canvas)

    path = drawn(tmp_path / "a.pdf", cropped)
    page = read(reader, path)
    image = opened(pictures.page(path, page, span(page), 600))
    left, _, _, bottom = lit(image)
    assert image.size == (600, 600)
    assert left == pytest.approx((60 - 50) * 2, abs=6)
    assert bottom == pytest.approx((550 - 300) * 2, abs=10)


def test_a_page_without_positions_is_shown_unmarked(pictures: Pictures, tmp_path: Path) -> None:
    """Its text came from the second parser."""
    path = drawn(tmp_path / "a.pdf", draw)
    picture = pictures.page(path, Page(1, "1", CITED, None), [(0, 10)], 300)
    assert not picture.marked
    assert opened(picture).width == 300


def test_the_same_picture_is_drawn_once(reader: Reader, tmp_path: Path) -> None:
    """It is kept, and still there when the file is not."""
    pictures = Pictures()
    path = drawn(tmp_path / "a.pdf", draw)
    page = read(reader, path)
    first = pictures.page(path, page, span(page), 300)
    path.unlink()
    assert pictures.page(path, page, span(page), 300) is first
    with pytest.raises(UnreadableDocument):
        pictures.page(path, page, span(page), 301)
    pictures.close()


def test_kept_pictures_are_bounded(reader: Reader, tmp_path: Path) -> None:
    """The oldest goes first."""
    path = drawn(tmp_path / "a.pdf", draw)
    page = read(reader, path)
    pictures = Pictures(kept_bytes=1)
    first = pictures.page(path, page, [], 300)
    assert pictures.page(path, page, [], 300) is not first
    pictures.close()


def test_a_damaged_file_cannot_be_drawn(pictures: Pictures, tmp_path: Path) -> None:
    """And the next one can."""
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7")
    with pytest.raises(UnreadableDocument, match="cannot be drawn"):
        pictures.page(path, Page(1, "1", "", None), [], 300)
    good = drawn(tmp_path / "b.pdf", draw)
    assert pictures.page(good, Page(1, "1", "", None), [], 300).image
