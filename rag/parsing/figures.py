"""Which pictures of a file are figures, and what the file says about them. Pure, but for `Gathering`.

Boxes are in pixels of the page drawn at 144 dpi, as the reader sees it: y grows downwards.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rag.domain import Block, Figure
from rag.parsing import budget

LONGEST_EDGE = 1024
"""Pixels of a figure."""
LONGEST_PAGE_EDGE = 1280
"""Pixels of a whole page."""
LEAST_EDGE = 100
"""Pixels; smaller pictures are icons and ornaments."""

_LEAST_SHARE = 0.03  # of the page
_BACKGROUND = 0.85  # of the page; a picture that large lies behind the text
_TOUCHING = 4.0  # pixels between the slices of one picture
_NAMED_WITHIN = 110.0  # pixels from a figure to a caption that says "Figure 3"
_UNNAMED_WITHIN = 40.0  # the same to a short paragraph that does not
_CENTRED = 0.04  # of the figure's width; running text next to a figure rarely is
_LONGEST_UNNAMED = 200  # characters
_LONGEST_CAPTION = 500
_ABOVE = 2.0  # a caption above counts as this many times as far: most stand below
_NAME = re.compile(
    r"(?:figure|fig|table|tab|chart|graph|diagram|image|photo(?:graph)?|illustration|plate|scheme|map|exhibit|screenshot"
    r"|abbildung|abb|bild|tabelle|grafik|diagramm|schaubild|foto|tableau|graphique|figura|tabla|gráfico|imagen|tabella"
    r"|figuur|tabel|рисунок|рис|таблица)\.?\s*(?:\d|(?-i:[IVX]+\b|[A-Z](?:[-.]?\d|\b)))"
    r"|[图圖表図]\s*\d|그림\s*\d|표\s*\d",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on a page."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels, never negative."""
        return max(self.right - self.left, 0.0)

    @property
    def height(self) -> float:
        """Pixels, never negative."""
        return max(self.bottom - self.top, 0.0)

    @property
    def area(self) -> float:
        """Square pixels."""
        return self.width * self.height

    def around(self, other: "Box") -> "Box":
        """The smallest box that holds both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def within(self, other: "Box") -> "Box":
        """What of it lies in the other."""
        return Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )


# ---------------------------------------------------------------- boxes


def covers(box: Box, page: Box) -> bool:
    """Whether a picture takes nearly the whole page: then it is a background, or the scan of the page."""
    return box.within(page).area >= _BACKGROUND * page.area


def figure_boxes(pictures: Iterable[Box], page: Box) -> list[Box]:
    """The figures of a page with text, from the top: pictures that overlap or touch are one; backgrounds, icons and
    ornaments are none."""
    inside = (picture.within(page) for picture in pictures if not covers(picture, page))
    found = [box for box in merged(box for box in inside if box.area > 0) if _large_enough(box, page)]
    return sorted((box for box in found if not covers(box, page)), key=lambda box: (box.top, box.left))


def merged(boxes: Iterable[Box]) -> list[Box]:
    """The boxes with those that overlap or touch made one, however long the chain."""
    apart: list[Box] = []
    for box in boxes:
        grown = box
        while touching := [other for other in apart if _touch(grown, other)]:
            apart = [other for other in apart if other not in touching]
            for other in touching:
                grown = grown.around(other)
        apart.append(grown)
    return apart


def _touch(one: Box, other: Box) -> bool:
    return (
        one.left - _TOUCHING <= other.right
        and other.left - _TOUCHING <= one.right
        and one.top - _TOUCHING <= other.bottom
        and other.top - _TOUCHING <= one.bottom
    )


def _large_enough(box: Box, page: Box) -> bool:
    return min(box.width, box.height) >= LEAST_EDGE and box.area >= _LEAST_SHARE * page.area


# ---------------------------------------------------------------- captions and headings


def names_figure(text: str) -> bool:
    """Whether a text begins as captions do: "Figure 3", "Abb. 2"."""
    return bool(_NAME.match(text))


def caption(figure: Box, texts: Sequence[tuple[Box, Block]]) -> Block | None:
    """The block that says what a figure shows, below it rather than above: the nearest that names a figure, or else a
    short paragraph centred on it."""
    named: list[tuple[float, Block]] = []
    short: list[tuple[float, Block]] = []
    for box, block in texts:
        distance = _distance(figure, box)
        if distance is None:
            continue
        far = distance if box.top > figure.top else _ABOVE * distance + 1
        if distance <= _NAMED_WITHIN and names_figure(block.text):
            named.append((far, block))
        elif distance <= _UNNAMED_WITHIN and _is_title(figure, box, block):
            short.append((far, block))
    _, found = min(named or short, key=lambda candidate: candidate[0], default=(0.0, None))
    return found


def _is_title(figure: Box, box: Box, block: Block) -> bool:
    off_centre = abs(box.left + box.right - figure.left - figure.right) / 2
    return block.kind == "paragraph" and len(block.text) <= _LONGEST_UNNAMED and off_centre <= _CENTRED * figure.width


def _distance(figure: Box, text: Box) -> float | None:
    """How far a text is from a figure below or above it; None when it is beside it or in it."""
    common = min(figure.right, text.right) - max(figure.left, text.left)
    if common < 0.3 * min(figure.width, text.width):
        return None
    middle = (text.top + text.bottom) / 2
    if middle > figure.bottom:
        return max(text.top - figure.bottom, 0.0)
    if middle < figure.top:
        return max(figure.top - text.bottom, 0.0)
    return None


def short_caption(text: str) -> str:
    """A caption on one line, of bounded length."""
    line = text.replace("\n", " ")
    return line if len(line) <= _LONGEST_CAPTION else line[: _LONGEST_CAPTION - 1].rstrip() + "…"


def trail(figure: Box, texts: Sequence[tuple[Box, Block]], before: Block | None) -> tuple[str, ...]:
    """The headings above a figure; `before` is the last block of the pages before.

    Text counts as above when its box is and it shares a column with the figure.
    """
    above = [
        block
        for box, block in texts
        if (box.top + box.bottom) / 2 < figure.top and box.left < figure.right and box.right > figure.left
    ]
    return trail_after(above[-1] if above else before)


def trail_after(block: Block | None) -> tuple[str, ...]:
    """The headings that hold for what follows a block."""
    if block is None:
        return ()
    return (*block.headings, block.text) if block.kind == "heading" else block.headings


# ---------------------------------------------------------------- bounds


class Gathering:
    """Passes the pictures of one file on, each once, until there are enough of them."""

    def __init__(self, figure: Callable[[Figure], None]) -> None:
        self._figure = figure
        self._deadline = time.monotonic() + budget.MAX_FIGURE_SECONDS
        self._keys: set[str] = set()
        self._bytes = 0
        self._left_out = 0

    @property
    def full(self) -> bool:
        """Whether no more are taken: too many, too large together, or too late."""
        return (
            len(self._keys) >= budget.MAX_FIGURES
            or self._bytes + budget.MAX_FIGURE_BYTES > budget.MAX_FIGURES_BYTES
            or self.late
        )

    @property
    def late(self) -> bool:
        """Whether the time for pictures is over."""
        return time.monotonic() > self._deadline

    def add(self, figure: Figure) -> None:
        """Pass a picture on, unless the same one was."""
        key = figure.image.key
        if key not in self._keys:
            self._keys.add(key)
            self._bytes += len(figure.image.data)
            self._figure(replace(figure, caption=short_caption(figure.caption)))

    def leave_out(self, count: int = 1) -> None:
        """So many could not be taken."""
        self._left_out += count

    def warnings(self) -> tuple[str, ...]:
        """What to tell about those left out."""
        if self.late:
            return ("Taking the pictures out of this file took too long; some were left out.",)
        if not self._left_out:
            return ()
        pictures = "1 picture was" if self._left_out == 1 else f"{self._left_out} pictures were"
        return (f"{pictures} left out: damaged, or more than the {budget.MAX_FIGURES} or 64 MB that are searched.",)
