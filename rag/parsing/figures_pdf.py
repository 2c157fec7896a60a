"""Takes pictures out of PDF files, as they appear on the page. Runs in the limited child process only.

A page without text is one picture. On the others, embedded pictures are cut out of the drawn page, so that masks,
colours, rotation and what is written over them come out as readers see them. Drawings made of lines (vector charts) are
no pictures in a PDF and are not found on pages with text.
"""

import ctypes
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import PIL.Image
import pypdfium2
import pypdfium2.raw as pdfium

from rag.domain import Block, Figure, Page
from rag.parsing import encode, figures
from rag.parsing.figures import LONGEST_EDGE, LONGEST_PAGE_EDGE, Box, Gathering
from rag.parsing.render import pixel, source_ranges

_SCALE = 2.0  # pixels a point: 144 dpi
_LARGEST_SCALE = 3.0
_MOST_OBJECTS = 50_000  # on a page, or in a form drawn on it
_DEEPEST = 5  # forms in forms
_MOST_PICTURES = 1_000
_LEAST_SOURCE = 16  # pixels of the embedded picture; smaller ones are stretched into lines and grounds
_MOST_CLIPS, _MOST_SEGMENTS = 20, 200  # clipping paths looked at, and how long they may be
_REPEATED = 3  # pages; what is on so many is a logo or letterhead
_HASHED = 4 * 1024**2  # bytes of an embedded picture
_STAMP = 120  # characters; a scan with no more text than a stamp or page number is still a scan


@dataclass(frozen=True, slots=True)
class _Picture:
    """An embedded picture: where it is drawn, and what tells it from others."""

    box: Box
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A picture to cut out of a page (all of it where `box` is None), and what stands beside it."""

    box: Box | None
    caption: str
    headings: tuple[str, ...]


def read(
    path: Path, pages: Sequence[Page], blocks: Sequence[Block], figure: Callable[[Figure], None]
) -> tuple[str, ...]:
    """Give `figure` the pictures of a PDF, in the order of pages; the warnings.

    `pages` and `blocks` are what was read of it as text. A file that pdfium cannot open, and pages that it cannot
    draw, have no pictures.
    """
    gathering = Gathering(figure)
    on_page: defaultdict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        on_page[block.page].append(block)
    try:
        document = pypdfium2.PdfDocument(path)
    except Exception:  # as when reading its text
        return ()
    with document:
        embedded = [[] if gathering.late else _pictures(document, page.number) for page in pages]
        pages_with = Counter(digest for pictures in embedded for digest in {picture.digest for picture in pictures})
        repeated = {digest for digest, count in pages_with.items() if count >= _REPEATED}
        before: Block | None = None
        for page, pictures in zip(pages, embedded, strict=True):
            texts = on_page[page.number]
            if pictures or not texts:
                _take(document, page, pictures, repeated, texts, before, gathering)
            before = texts[-1] if texts else before
    return gathering.warnings()


def _take(
    document: pypdfium2.PdfDocument,
    page: Page,
    pictures: Sequence[_Picture],
    repeated: Set[bytes],
    blocks: Sequence[Block],
    before: Block | None,
    gathering: Gathering,
) -> None:
    """Take what is worth searching of one page."""
    try:
        with _sheet(document, page.number) as sheet:
            for wanted in _wanted(sheet, page, pictures, repeated, blocks, before):
                if gathering.full:
                    gathering.leave_out()
                    continue
                picture = _drawn(sheet, wanted.box)
                if encode.blank(picture):
                    continue
                image = encode.bounded(picture, LONGEST_PAGE_EDGE if wanted.box is None else LONGEST_EDGE)
                if image is None:
                    gathering.leave_out()
                    continue
                whole_page = wanted.box is None
                gathering.add(Figure(page.number, page.label, whole_page, image, wanted.caption, wanted.headings))
    except Exception:  # pdfium's Python side fails in many ways on damaged pages
        gathering.leave_out()


def _wanted(
    sheet: pypdfium2.PdfPage,
    page: Page,
    pictures: Sequence[_Picture],
    repeated: Set[bytes],
    blocks: Sequence[Block],
    before: Block | None,
) -> list[_Wanted]:
    outline = _outline(sheet)
    if not blocks or _is_scan(blocks, [picture.box for picture in pictures], outline):
        return [_Wanted(None, "", figures.trail_after(before))]
    own = (picture.box for picture in pictures if picture.digest not in repeated)
    boxes = figures.figure_boxes(own, outline)
    texts = _texts(sheet, page, blocks) if boxes else []
    found = []
    for box in boxes:
        caption = figures.caption(box, texts)
        headings = caption.headings if caption else figures.trail(box, texts, before)
        found.append(_Wanted(box, caption.text if caption else "", headings))
    return found


def _is_scan(blocks: Sequence[Block], pictures: Sequence[Box], outline: Box) -> bool:
    """Whether a page is a scan with no more text than a stamp or page number on it."""
    stamped = sum(len(block.text) for block in blocks) <= _STAMP
    return stamped and any(figures.covers(box, outline) for box in figures.merged(pictures))


# ---------------------------------------------------------------- the page


@contextmanager
def _sheet(document: pypdfium2.PdfDocument, number: int) -> Iterator[pypdfium2.PdfPage]:
    sheet = document[number - 1]
    try:
        yield sheet
    finally:
        sheet.close()


def _outline(sheet: pypdfium2.PdfPage) -> Box:
    width, height = sheet.get_size()
    return Box(0.0, 0.0, math.ceil(width * _SCALE), math.ceil(height * _SCALE))


def _drawn(sheet: pypdfium2.PdfPage, box: Box | None) -> PIL.Image.Image:
    """The page, or what a box on it holds, about as large as it will be kept."""
    outline = _outline(sheet)
    shown, longest = (box, LONGEST_EDGE) if box else (outline, LONGEST_PAGE_EDGE)
    margins = (shown.left, outline.bottom - shown.bottom, outline.right - shown.right, shown.top)
    left, bottom, right, top = (margin / _SCALE for margin in margins)
    scale = min(_SCALE * longest / max(shown.width, shown.height, 1.0), _LARGEST_SCALE)
    bitmap = sheet.render(scale=scale, crop=(left, bottom, right, top))
    try:
        picture: PIL.Image.Image = bitmap.to_pil().convert("RGB")
    finally:
        bitmap.close()
    return picture


def _seen(sheet: pypdfium2.PdfPage, corners: Iterable[tuple[float, float]]) -> Box:
    """The box of points given in the page's own coordinates, turned as the reader sees it."""
    outline = _outline(sheet)
    points = [pixel(sheet, (int(outline.right), int(outline.bottom)), x, y) for x, y in corners]
    columns, rows = zip(*points, strict=True)
    return Box(min(columns), min(rows), max(columns), max(rows))


def _texts(sheet: pypdfium2.PdfPage, page: Page, blocks: Sequence[Block]) -> list[tuple[Box, Block]]:
    """The blocks of a page in reading order, with where they stand; none where the text has no positions."""
    if page.runs is None:
        return []
    found = []
    textpage = sheet.get_textpage()
    try:
        for block in blocks:
            corners: list[tuple[float, float]] = []
            for first, count in source_ranges(page.runs, [(block.start, block.end)]):
                for index in range(textpage.count_rects(first, count)):
                    left, bottom, right, top = textpage.get_rect(index)
                    corners += [(left, bottom), (right, top)]
            if corners:
                found.append((_seen(sheet, corners), block))
    finally:
        textpage.close()
    return found


# ---------------------------------------------------------------- embedded pictures


def _pictures(document: pypdfium2.PdfDocument, number: int) -> list[_Picture]:
    """The embedded pictures of a page; none where the page is damaged."""
    found: list[_Picture] = []
    try:
        with _sheet(document, number) as sheet:
            for item in islice(_embedded(sheet, None, 0), _MOST_PICTURES):
                if min(item.get_px_size()) >= _LEAST_SOURCE and (corners := _corners(item)):
                    found.append(_Picture(_seen(sheet, corners), _digest(item)))
    except Exception:  # pdfium's Python side fails in many ways on damaged pages
        return found
    return found


def _embedded(sheet: pypdfium2.PdfPage, form: pypdfium2.PdfObject | None, level: int) -> Iterator[pypdfium2.PdfImage]:
    """The pictures of a page, or of a form drawn on it, with the forms they are in as their `container`.

    pypdfium2's own walk makes a Python object of every letter and line, which takes longer than reading the text.
    """
    if form is None:
        count, holder, item_of = pdfium.FPDFPage_CountObjects(sheet.raw), sheet.raw, pdfium.FPDFPage_GetObject
    else:
        count, holder, item_of = pdfium.FPDFFormObj_CountObjects(form.raw), form.raw, pdfium.FPDFFormObj_GetObject
    for index in range(min(count, _MOST_OBJECTS)):
        raw = item_of(holder, index)
        kind = pdfium.FPDFPageObj_GetType(raw)
        if kind in {pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_FORM}:
            item = pypdfium2.PdfObject(raw, page=sheet, pdf=sheet.pdf, container=form, level=level)
            if kind == pdfium.FPDF_PAGEOBJ_IMAGE:
                yield item
            elif level < _DEEPEST:
                yield from _embedded(sheet, item, level + 1)


def _corners(item: pypdfium2.PdfObject) -> list[tuple[float, float]]:
    """The corners, in the page's coordinates, of what can be seen of a picture; empty when it is clipped away.

    pdfium gives bounds and clips in the coordinates of the form that the picture is drawn in.
    """
    left, bottom, right, top = _clipped(item, item.get_bounds())
    holder = item.container
    while holder is not None and left < right and bottom < top:
        turned = [holder.get_matrix().on_point(x, y) for x in (left, right) for y in (bottom, top)]
        columns, rows = zip(*turned, strict=True)
        left, bottom, right, top = _clipped(holder, (min(columns), min(rows), max(columns), max(rows)))
        holder = holder.container
    return [(x, y) for x in (left, right) for y in (bottom, top)] if left < right and bottom < top else []


def _clipped(item: pypdfium2.PdfObject, bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Bounds (left, bottom, right, top) cut to the boxes of the object's clipping paths."""
    left, bottom, right, top = bounds
    clip = pdfium.FPDFPageObj_GetClipPath(item.raw)
    x, y = ctypes.c_float(), ctypes.c_float()
    for path in range(min(pdfium.FPDFClipPath_CountPaths(clip), _MOST_CLIPS) if clip else 0):
        points = []
        segments = pdfium.FPDFClipPath_CountPathSegments(clip, path)
        for segment in range(segments if segments <= _MOST_SEGMENTS else 0):
            place = pdfium.FPDFClipPath_GetPathSegment(clip, path, segment)
            if place and pdfium.FPDFPathSegment_GetPoint(place, ctypes.byref(x), ctypes.byref(y)):
                points.append((x.value, y.value))
        if points:
            columns, rows = zip(*points, strict=True)
            left, right = max(left, min(columns)), min(right, max(columns))
            bottom, top = max(bottom, min(rows)), min(top, max(rows))
    return left, bottom, right, top


def _digest(item: pypdfium2.PdfImage) -> bytes:
    """What tells an embedded picture from others: its bytes, or its size where there are too many of them."""
    length = pdfium.FPDFImageObj_GetImageDataRaw(item.raw, None, 0)
    if length > _HASHED:
        return repr((length, item.get_px_size())).encode()
    buffer = ctypes.create_string_buffer(length)
    pdfium.FPDFImageObj_GetImageDataRaw(item.raw, buffer, length)
    return hashlib.blake2b(buffer.raw, digest_size=16).digest()
