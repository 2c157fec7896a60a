"""Pictures of PDF pages with passages lit. Runs in the limited child process only."""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image, ImageChops, ImageDraw

from rag.domain import Run
from rag.errors import UnreadableDocument
from rag.parsing.encode import smallest

_WIDEST = 3000  # pixels
_MOST_PIXELS = 12_000_000
_MARKER = (255, 226, 110)
_JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True)
class Rendered:
    """An encoded picture; `marked` tells whether any passage was lit on it."""

    image: bytes
    media_type: str
    marked: bool


def page(path: Path, number: int, runs: Sequence[Run] | None, spans: Sequence[Sequence[int]], width: int) -> Rendered:
    """Page `number` (from 1), `width` pixels wide, with `spans` (offsets in the page's text) lit through `runs`.

    Raises UnreadableDocument.
    """
    try:
        with pypdfium2.PdfDocument(path) as document:
            sheet = document[number - 1]
            scale = _scale(sheet, width)
            bitmap = sheet.render(scale=scale)
            picture = bitmap.to_pil().convert("RGB")
            bitmap.close()
            boxes = _boxes(sheet, source_ranges(runs, spans), picture.size) if runs and spans else []
            sheet.close()
    except Exception as error:  # pdfium's Python side fails in many ways on damaged pages
        raise UnreadableDocument("This page cannot be drawn: the file is damaged or protected.") from error
    return Rendered(*smallest(_lit(picture, boxes), _JPEG_QUALITY), marked=bool(boxes))


def source_ranges(runs: Sequence[Run], spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """(first, count) of the parser's characters behind spans of a page's text; separators have none."""
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        for run in runs:
            first, last = max(start, run.start), min(end, run.start + run.length)
            if first < last:
                ranges.append((run.source + first - run.start, last - first))
    return ranges


def _scale(sheet: pypdfium2.PdfPage, width: int) -> float:
    page_width, page_height = sheet.get_size()
    scale = float(min(width, _WIDEST)) / max(page_width, 1.0)
    return float(min(scale, math.sqrt(_MOST_PIXELS / max(page_width * page_height, 1.0))))


def _boxes(
    sheet: pypdfium2.PdfPage, ranges: Sequence[tuple[int, int]], size: tuple[int, int]
) -> list[tuple[float, float, float, float]]:
    """Pixel boxes of ranges of characters; page → device coordinates make rotation and crop boxes come out right."""
    textpage = sheet.get_textpage()
    found = []
    try:
        for first, count in ranges:
            for index in range(textpage.count_rects(first, count)):
                left, bottom, right, top = textpage.get_rect(index)
                x0, y0 = pixel(sheet, size, left, top)
                x1, y1 = pixel(sheet, size, right, bottom)
                found.append((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
    finally:
        textpage.close()
    return [box for box in found if box[2] > 0 and box[3] > 0 and box[0] < size[0] and box[1] < size[1]]


def pixel(sheet: pypdfium2.PdfPage, size: tuple[int, int], x: float, y: float) -> tuple[int, int]:
    """Where a point of the page (in its own coordinates) falls on a picture of it that is `size` pixels large."""
    column, row = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDF_PageToDevice(sheet.raw, 0, 0, *size, 0, x, y, column, row)
    return column.value, row.value


def _lit(picture: Image.Image, boxes: Sequence[tuple[float, float, float, float]]) -> Image.Image:
    """Multiply, so that type stays black and paper turns yellow."""
    if not boxes:
        return picture
    marker = Image.new("RGB", picture.size, "white")
    draw = ImageDraw.Draw(marker)
    pad = max(1.0, picture.width / 600)
    for left, top, right, bottom in boxes:
        draw.rectangle((left - pad, top - pad, right + pad, bottom + pad), fill=_MARKER)
    return ImageChops.multiply(picture, marker)
