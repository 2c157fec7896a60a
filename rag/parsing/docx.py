"""Word files (.docx), read from their XML in document order.

Runs in the limited child process only. Reading `w:t` with lxml keeps what paragraph-and-table libraries lose: content
controls, text boxes, smart tags, tracked insertions; and reads Strict files. Deleted text and the second copies in
`mc:Fallback` are left out.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from rag.domain import Block, BlockKind, Page
from rag.errors import UnreadableDocument
from rag.parsing import clean
from rag.parsing.budget import Budget
from rag.parsing.drawings import Drawing, drawings
from rag.parsing.ending import Ending, NoText, Placed
from rag.parsing.figures import names_figure
from rag.parsing.layout import CELL
from rag.parsing.package import Package

DAMAGED = "This Word document is damaged and cannot be read. Opening it in Word and saving it again often helps."
NO_TEXT = "This Word document has no text."
PICTURES_ALONE = f"{NO_TEXT} Turn on pictures for this collection to search its pictures."

_LONGEST_HEADING = 300
_LAYOUT_CELL = 1500  # characters; a table with such a cell only arranges running text

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_SKIPPED = frozenset(
    {f"{_W}del", f"{_W}moveFrom", f"{_MC}Fallback", f"{_W}sectPr", f"{_W}pPr", f"{_W}rPr", f"{_W}sdtPr", f"{_W}tblPr"}
)
_BOX = f"{_W}txbxContent"
_NOT_SHOWN = _SKIPPED | {_BOX}
_TEXT = frozenset({f"{_W}t", f"{_M}t"})
_BREAKS = frozenset({f"{_W}br", f"{_W}cr"})
_TITLE_RANK = 0
_HEADING_STYLE = re.compile(r"heading ([1-9])$", re.IGNORECASE)


def read(path: Path, begin: Callable[[int], None], page: Callable[[Page], None]) -> Ending:
    """Read a Word file: `begin` is told that it is one page, `page` is given that page, number 1 without a label.

    Raises UnreadableDocument, NoText after the page.
    """
    begin(1)
    try:
        with Package(path) as package:
            writer = _Writer()
            document = _Document(package, writer)
            warnings = document.read()
        pictures = document.pictures()
    except UnreadableDocument:
        raise
    except MemoryError:
        raise
    except Exception as error:  # zipfile and lxml raise anything at all on damaged files
        raise UnreadableDocument(DAMAGED) from error
    page(Page(1, "", writer.text(), None))
    ending = Ending(tuple(writer.blocks), warnings, pictures=pictures)
    if not ending.blocks:
        raise NoText(PICTURES_ALONE if pictures else NO_TEXT, ending)
    return ending


# ---------------------------------------------------------------- text and blocks as they grow


class _Writer:
    """The one page's text, its blocks, and the trail of headings."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.captions: set[int] = set()
        """The places in `blocks` of captions."""
        self._parts: list[str] = []
        self._length = 0
        self._trail: list[tuple[int, str]] = []
        self._budget = Budget()

    def text(self) -> str:
        return "".join(self._parts)

    def add(self, kind: BlockKind, text: str, rank: int | None = None, header: int = 0) -> None:
        """Add a block; `rank` is a heading's, smaller for an outer one; `header` the length of a table's header."""
        self._budget.read(len(text))
        if not text.strip():
            return
        if self._parts:
            self._parts.append("\n\n")
            self._length += 2
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        level = 0
        if rank is not None:
            while self._trail and self._trail[-1][0] >= rank:
                self._trail.pop()
        headings = self.trail
        if rank is not None:
            self._trail.append((rank, text))
            level = len(self._trail)
        self.blocks.append(Block(kind, text, 1, start, self._length, headings, level, start + header if header else 0))

    @property
    def trail(self) -> tuple[str, ...]:
        """The headings above what is added next, outermost first."""
        return tuple(title for _, title in self._trail)

    def leave_sections(self) -> None:
        """What follows belongs to no section."""
        self._trail.clear()


# ---------------------------------------------------------------- styles and numbering


@dataclass(frozen=True, slots=True)
class _Style:
    name: str
    rank: int | None
    number: str | None
    number_level: int | None
    based_on: str | None


@dataclass(slots=True)
class _Numbering:
    """Counts list items as Word does, to print their markers."""

    formats: dict[tuple[str, int], tuple[str, str, int]] = field(
        default_factory=dict
    )  # (list, level) → format, text, start
    lists: dict[str, str] = field(default_factory=dict)  # numId → abstractNumId
    counts: defaultdict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def marker(self, number: str, level: int) -> str:
        """The marker of the next item of a list on a level; "" where it has none."""
        abstract = self.lists.get(number, "")
        if (abstract, level) not in self.formats:
            return ""
        kind, text, start = self.formats[abstract, level]
        if kind == "bullet":
            return "•"
        if kind == "none":
            return ""
        counts = self.counts[abstract]
        counts[level] = counts.get(level, start - 1) + 1
        for deeper in [each for each in counts if each > level]:
            del counts[deeper]

        def figure(match: re.Match[str]) -> str:
            other = int(match[1]) - 1
            other_kind, _, other_start = self.formats.get((abstract, other), ("decimal", "", 1))
            return _count(counts.get(other, other_start), other_kind)

        return clean.clean(re.sub(r"%([1-9])", figure, text))


def _count(value: int, kind: str) -> str:
    if kind.endswith("Letter") and value > 0:
        letters = chr(ord("a") + (value - 1) % 26) * ((value - 1) // 26 % 10 + 1)
        return letters.upper() if kind.startswith("upper") else letters
    if kind.endswith("Roman") and 0 < value < 4000:
        roman = ""
        for worth, sign in zip(
            (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
            ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i"),
            strict=True,
        ):
            roman += sign * (value // worth)
            value %= worth
        return roman.upper() if kind.startswith("upper") else roman
    return str(value)


def _value(element: etree._Element | None) -> str | None:
    return element.get(f"{_W}val") if element is not None else None


def _integer(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _styles(root: etree._Element | None) -> dict[str, _Style]:
    found: dict[str, _Style] = {}
    for style in root.iter(f"{_W}style") if root is not None else ():
        name = (_value(style.find(f"{_W}name")) or "").strip()
        outline = _integer(_value(style.find(f"{_W}pPr/{_W}outlineLvl")))
        heading = _HEADING_STYLE.match(name)
        rank = None
        if name.casefold() == "title":
            rank = _TITLE_RANK
        elif heading:
            rank = int(heading[1])
        elif outline is not None and 0 <= outline <= 8:
            rank = outline + 1
        numbering = style.find(f"{_W}pPr/{_W}numPr")
        found[style.get(f"{_W}styleId", "")] = _Style(
            name.casefold(),
            rank,
            _value(numbering.find(f"{_W}numId")) if numbering is not None else None,
            _integer(_value(numbering.find(f"{_W}ilvl"))) if numbering is not None else None,
            _value(style.find(f"{_W}basedOn")),
        )
    return found


def _numbering(root: etree._Element | None) -> _Numbering:
    numbering = _Numbering()
    if root is None:
        return numbering
    for abstract in root.iter(f"{_W}abstractNum"):
        for level in abstract.iter(f"{_W}lvl"):
            numbering.formats[abstract.get(f"{_W}abstractNumId", ""), _integer(level.get(f"{_W}ilvl")) or 0] = (
                _value(level.find(f"{_W}numFmt")) or "decimal",
                _value(level.find(f"{_W}lvlText")) or "",
                _integer(_value(level.find(f"{_W}start"))) or 1,
            )
    for number in root.iter(f"{_W}num"):
        numbering.lists[number.get(f"{_W}numId", "")] = _value(number.find(f"{_W}abstractNumId")) or ""
    return numbering


# ---------------------------------------------------------------- the walk


class _Document:
    """Walks the body in document order."""

    def __init__(self, package: Package, writer: _Writer) -> None:
        self._writer = writer
        self._drawings: list[tuple[Drawing, int, tuple[str, ...]]] = []  # with the blocks before, and the trail
        main = package.main()
        self._root = package.part(main)
        if self._root is None:
            raise UnreadableDocument("This is not a Word document: it holds no text part.")
        related = package.related(main)
        self._styles = _styles(package.optional(related["styles"]))
        self._numbering = _numbering(package.optional(related["numbering"]))
        self._pictures = package.pictures(main)
        self._notes = [package.optional(related[kind]) for kind in ("footnotes", "endnotes")]

    def read(self) -> tuple[str, ...]:
        """Write all blocks; the warnings."""
        assert self._root is not None  # noqa: S101  (checked above)
        body = self._root.find(f"{_W}body")
        if body is None:
            raise UnreadableDocument("This is not a Word document: it holds no text part.")
        self._blocks(body)
        self._writer.leave_sections()
        for notes in self._notes:
            self._footnotes(notes)
        if next(body.iter(f"{_W}altChunk"), None) is not None:
            return ("Parts of this document are whole files embedded in it; their text was not read.",)
        return ()

    def pictures(self) -> tuple[Placed, ...]:
        """The pictures of the body, in document order."""
        return tuple(
            Placed(
                self._pictures[drawing.relationship],
                drawing.cut,
                drawing.description,
                self._caption(before - 1),
                self._caption(before),
                headings,
            )
            for drawing, before, headings in self._drawings
            if drawing.relationship in self._pictures
        )

    def _caption(self, place: int) -> str:
        """The block at a place if it is a caption, else ""."""
        return self._writer.blocks[place].text if place in self._writer.captions else ""

    def _blocks(self, container: etree._Element) -> None:
        for element in container:
            if element.tag == f"{_W}p":
                self._paragraph(element)
            elif element.tag == f"{_W}tbl":
                self._table(element)
            elif isinstance(element.tag, str) and element.tag not in _SKIPPED:
                self._blocks(element)

    def _paragraph(self, paragraph: etree._Element) -> None:
        text = _text(paragraph)
        rank, number, level = self._properties(paragraph)
        if text:
            marker = self._numbering.marker(number, level) if number else ""
            marked = f"{marker} {text}" if marker else text
            if names_figure(text) or self._is_caption(paragraph):
                self._writer.captions.add(len(self._writer.blocks))
            if rank is not None and len(text) <= _LONGEST_HEADING:
                self._writer.add("heading", marked.replace("\n", " "), rank)
            else:
                self._writer.add("list" if number else "paragraph", marked)
        self._draw(paragraph)
        for box in _boxes(paragraph):
            self._blocks(box)

    def _draw(self, element: etree._Element) -> None:
        """Remember where the pictures of a paragraph or table stand; those of its text boxes come with their text."""
        if not self._pictures:
            return  # most documents: no need to look at every element again
        place, trail = len(self._writer.blocks), self._writer.trail
        self._drawings.extend((drawing, place, trail) for drawing in drawings(element, _NOT_SHOWN))

    def _is_caption(self, paragraph: etree._Element) -> bool:
        style = self._styles.get(_value(paragraph.find(f"{_W}pPr/{_W}pStyle")) or "")
        return style is not None and style.name == "caption"

    def _properties(self, paragraph: etree._Element) -> tuple[int | None, str | None, int]:
        """A paragraph's heading rank, list and list level: its own, or its style's, or that of the style below."""
        properties = paragraph.find(f"{_W}pPr")
        if properties is None:
            return None, None, 0
        outline = _integer(_value(properties.find(f"{_W}outlineLvl")))
        rank = outline + 1 if outline is not None and 0 <= outline <= 8 else None
        number = _value(properties.find(f"{_W}numPr/{_W}numId"))
        level = _integer(_value(properties.find(f"{_W}numPr/{_W}ilvl")))
        style = self._styles.get(_value(properties.find(f"{_W}pStyle")) or "")
        for _ in range(10):  # styles may be based on one another in a circle
            if style is None:
                break
            rank = style.rank if rank is None and outline is None else rank
            number = style.number if number is None else number
            level = style.number_level if level is None else level
            style = self._styles.get(style.based_on or "")
        return rank, number if number != "0" else None, level or 0

    def _table(self, table: etree._Element) -> None:
        rows = [(row, [_flat(cell) for cell in _children(row, "tc")]) for row in _children(table, "tr")]
        arranged = max((len(cells) for _, cells in rows), default=0) < 2 or any(
            len(cell) > _LAYOUT_CELL for _, cells in rows for cell in cells
        )
        if arranged:
            for row, _ in rows:
                for cell in _children(row, "tc"):
                    self._blocks(cell)
            return
        lines = [CELL.join(cells) for _, cells in rows if any(cells)]
        heads = 0
        for row, cells in rows:
            if row.find(f"{_W}trPr/{_W}tblHeader") is None or not any(cells):
                break
            heads += 1
        if not heads and len(lines) > 2 and _first_row_is_special(table) and all(rows[0][1]):
            heads = 1
        header = len("\n".join(lines[:heads])) if 0 < heads < len(lines) else 0
        self._writer.add("table", "\n".join(lines), header=header)
        self._draw(table)
        for box in _boxes(table):
            self._blocks(box)

    def _footnotes(self, notes: etree._Element | None) -> None:
        for note in notes if notes is not None else ():
            if note.get(f"{_W}type") in (None, "normal"):
                self._writer.add("paragraph", _flat(note))


def _children(parent: etree._Element, name: str) -> Iterator[etree._Element]:
    """The rows of a table or the cells of a row, also those wrapped in content controls and tracked insertions."""
    for element in parent:
        if element.tag == f"{_W}{name}":
            if element.find(f"{_W}trPr/{_W}del") is None:
                yield element
        elif isinstance(element.tag, str) and element.tag not in _SKIPPED and element.tag != f"{_W}p":
            yield from _children(element, name)


def _flat(container: etree._Element) -> str:
    """The text of a table's cell or a footnote on one line, nested tables included."""
    return " ".join(filter(None, (_text(paragraph).replace("\n", " ") for paragraph in _paragraphs(container))))


def _paragraphs(container: etree._Element) -> Iterator[etree._Element]:
    for element in container:
        if element.tag == f"{_W}p":
            yield element
        elif isinstance(element.tag, str) and element.tag not in _SKIPPED:
            yield from _paragraphs(element)


def _first_row_is_special(table: etree._Element) -> bool:
    look = table.find(f"{_W}tblPr/{_W}tblLook")
    if look is None:
        return False
    return look.get(f"{_W}firstRow") in ("1", "true") or bool((int(look.get(f"{_W}val", "0"), 16)) & 0x20)


def _text(paragraph: etree._Element) -> str:
    """A paragraph's text without that of its text boxes; line breaks kept, everything else clean."""
    return "\n".join(filter(None, (clean.clean(line) for line in "".join(_strings(paragraph)).split("\n"))))


def _strings(element: etree._Element) -> Iterator[str]:
    for child in element:
        tag = child.tag
        if tag in _TEXT:
            yield (child.text or "").replace("\n", " ")
        elif tag in _BREAKS:
            yield "\n"
        elif tag == f"{_W}tab":
            yield " "
        elif tag == f"{_W}noBreakHyphen":
            yield "-"
        elif tag == f"{_W}sym":
            code = _integer_hexadecimal(child.get(f"{_W}char"))
            yield chr(code) if code else ""
        elif isinstance(tag, str) and tag not in _SKIPPED and tag != _BOX:
            yield from _strings(child)


def _integer_hexadecimal(text: str | None) -> int:
    try:
        return int(text or "0", 16) & 0xFFFF
    except ValueError:
        return 0


def _boxes(element: etree._Element) -> Iterator[etree._Element]:
    """The contents of text boxes in an element, outermost ones, without second copies."""
    for child in element:
        if child.tag == _BOX:
            yield child
        elif isinstance(child.tag, str) and child.tag not in _SKIPPED:
            yield from _boxes(child)
