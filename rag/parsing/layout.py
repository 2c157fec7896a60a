"""Lines with positions → paragraphs, list items and tables of one page. Pure; knows nothing of PDF.

Distances are points of the page. `level` of a line is its height above the page's bottom as the reader sees it, so it
falls from line to line; a rise means another column or table cell. Reading order is the order given.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rag.domain import BlockKind, Page, Run
from rag.parsing import clean

CELL = " | "
"""Between the cells of a table's row: reads well as plain text, for people and for models."""

LINE_END_HYPHENS = "\ufffe\u00ad-\u2010"
"""pdfium writes U+FFFE for a hyphen at a line's end where the word goes on."""

_BULLET = re.compile(r"[•●○◦▪■□▫‣⁃∙·►▶❖✓✔➢➔\uf06c\uf06e\uf076\uf0a7\uf0a8\uf0b7\uf0d8\uf0fc–—*-](?=\s)")
_NUMBERED = re.compile(r"(?:\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]|\d{1,2}(?:\.\d{1,2}){1,3}\.?)(?=\s|$)")
_LOOK_BACK = 10  # lines of a block or table that tell how wide it is
_MOST_HEADS = 40  # lines of column headings above a table
_SENTENCE_END = re.compile(r"[.!?:;…。！？：；][\"'”’)\]]*$")
_OPEN_END = re.compile(r"(?:,|\b(?:an?|and|as|at|by|for|from|in|of|on|or|that|the|to|which|with))$")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of type: characters `start` to `end` of the parser's text, without white space at its ends.

    `gaps` are the offsets of words that stand far from the word before (where a table's next cell begins).
    """

    text: str
    start: int
    left: float
    right: float
    level: float
    size: float
    bold: bool
    italic: bool = False
    angle: int = 0
    gaps: tuple[int, ...] = ()


@dataclass(slots=True)
class Draft:
    """A block before the whole document is known: what it is, where it stands and how it is set."""

    kind: BlockKind
    start: int
    end: int
    level: float
    size: float
    bold: bool
    lines: int
    left: float = 0.0
    centred: bool = False
    header_end: int = 0


@dataclass(slots=True)
class _Group:
    kind: BlockKind
    lines: list[Line]
    rows: list[list[list[Line]]] = field(default_factory=list)
    header_rows: int = 0


class Words:
    """Words seen so far, to tell a hyphen that breaks a word from one that belongs to it."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, text: str) -> None:
        """Remember the words of a page."""
        self._seen.update(text.casefold().split())

    def keeps_hyphen(self, before: str, after: str) -> bool:
        """Whether `before-after`, split over two lines, is written with its hyphen."""
        if not after[:1].islower() or not before[-1:].isalpha():
            return True
        head = re.split(r"[\s(\"“]", before)[-1].casefold()
        tail = re.split(r"[\s,.;:)\"”]", after, maxsplit=1)[0].casefold()
        if head + tail in self._seen:
            return False
        if f"{head}-{tail}" in self._seen or "-" in head:
            return True
        return head in self._seen and tail in self._seen


def compose(lines: Sequence[Line], width: float, words: Words, number: int, label: str) -> tuple[Page, list[Draft]]:
    """The page's clean text with its map back to the parser's characters, and its blocks in reading order."""
    groups = _groups(lines)
    text = _Text(words)
    drafts = []
    for group in groups:
        text.begin_block()
        start = text.length
        header_end = 0
        if group.kind == "table":
            for index, row in enumerate(group.rows):
                if index:
                    text.separate("\n")
                for column, cell in enumerate(row):
                    if column:
                        text.separate(CELL)
                    text.add_lines(cell)
                if index + 1 == group.header_rows:
                    header_end = text.length
        else:
            text.add_lines(group.lines)
        if text.length == start:
            continue
        first = group.lines[0]
        middle = (min(line.left for line in group.lines) + max(line.right for line in group.lines)) / 2
        drafts.append(
            Draft(
                kind=group.kind,
                start=start,
                end=text.length,
                level=first.level,
                size=first.size,
                bold=all(line.bold for line in group.lines),
                lines=len(group.lines),
                left=min(line.left for line in group.lines),
                centred=abs(middle - width / 2) < 0.02 * width,
                header_end=header_end,
            )
        )
    return Page(number, label, text.finish(), tuple(text.runs)), drafts


# ---------------------------------------------------------------- lines → groups


def _groups(lines: Sequence[Line]) -> list[_Group]:
    pitch, margin = _pitch(lines), _right_margin(lines)
    groups: list[_Group] = []
    position = 0
    for start, end in _tables(lines, pitch):
        groups.extend(_paragraphs(lines[position:start], pitch, margin))
        groups.append(_table(lines[start:end]))
        position = end
    groups.extend(_paragraphs(lines[position:], pitch, margin))
    return groups


def _pitch(lines: Sequence[Line]) -> float:
    """The page's usual distance from line to line, as a multiple of the type size."""
    steps: Counter[float] = Counter()
    for above, below in pairwise(lines):
        step = above.level - below.level
        if above.angle == below.angle and 0.7 * below.size < step < 3 * below.size and not below.gaps:
            steps[round(step / below.size, 1)] += len(below.text)
    return steps.most_common(1)[0][0] if steps else 1.2


def _right_margin(lines: Sequence[Line]) -> float:
    """Where long lines end: the third quarter of the right ends of lines of running text, or else the longest line."""
    ends = sorted(line.right for line in lines if len(line.text) > 40 and not line.gaps)
    return ends[len(ends) * 3 // 4] if ends else max((line.right for line in lines), default=0.0)


def _paragraphs(lines: Sequence[Line], pitch: float, margin: float) -> list[_Group]:
    groups: list[_Group] = []
    for line in lines:
        if groups and _continues(groups[-1].lines, line, pitch, margin):
            groups[-1].lines.append(line)
        else:
            groups.append(_Group("list" if _is_item(line.text) else "paragraph", [line]))
    return groups


def _is_item(text: str) -> bool:
    return bool(_BULLET.match(text) or _NUMBERED.match(text))


def _continues(block: Sequence[Line], line: Line, pitch: float, margin: float) -> bool:
    """Whether `line` belongs to the paragraph of `block`."""
    last = block[-1]
    if line.angle != last.angle:
        return False
    step = last.level - line.level
    if last.text[-1] in "\ufffe\u00ad" or (abs(step) < 0.3 * line.size and line.left >= last.right - 0.2 * line.size):
        return True  # a word goes on, or the same line comes in two pieces
    ended = bool(_SENTENCE_END.search(last.text))
    if step < 0:
        return not ended and line.text[0].islower()  # the next column
    first_word = len(line.text.split(maxsplit=1)[0]) * 0.5 * line.size
    # A paragraph's first line may be set longer than the others, so it says nothing about their margin.
    edge = max(each.right for each in block[max(1, len(block) - _LOOK_BACK) :]) if len(block) > 2 else margin
    room = max(edge, line.right) - last.right
    short = room > first_word + line.size and not _OPEN_END.search(last.text)
    return not (
        step > 1.3 * pitch * max(line.size, last.size)
        or _set_anew(last, line, short or ended)
        or _new_item(last, line, short or ended)
        or (short and (ended or not line.text[0].islower()))
        or (ended and _indented(block, line))
    )


def _set_anew(last: Line, line: Line, border: bool) -> bool:
    """Whether the type changes where a paragraph may end."""
    resized = abs(line.size - last.size) > 0.08 * max(line.size, last.size)
    return border and (resized or last.bold != line.bold or last.italic != line.italic)


def _new_item(last: Line, line: Line, border: bool) -> bool:
    numbered = _NUMBERED.match(line.text) and (border or last.text.endswith((",", " and", " or")))
    return bool(numbered or _BULLET.match(line.text))


def _indented(block: Sequence[Line], line: Line) -> bool:
    """Whether a line begins a paragraph by where it stands; the second line may hang or follow a first-line indent."""
    indent = line.left - block[-1].left
    limit = 1.2 * line.size
    return abs(indent) > limit if len(block) > 1 else indent > limit and not _is_item(block[0].text)


# ---------------------------------------------------------------- tables


def _tables(lines: Sequence[Line], pitch: float) -> list[tuple[int, int]]:
    """Ranges of lines that are tables: at least two rows with cells, and what stands between and right above them."""
    ranges: list[tuple[int, int]] = []
    position = 0
    while position < len(lines):
        if not lines[position].gaps:
            position += 1
            continue
        end = last = position
        rows = 0
        while end < len(lines) and end - last <= 3 and _near(lines, last, end, pitch):
            if lines[end].gaps:
                rows += 1
                last = end
            elif not _label(lines, position, end):
                break
            end += 1
        if rows > 1:
            floor = ranges[-1][1] if ranges else 0
            start = _header_start(lines, position, last, floor)
            ranges.append((start, last + 1))
        position = last + 1
    return ranges


def _near(lines: Sequence[Line], last: int, line: int, pitch: float) -> bool:
    if line == last:
        return True
    step = abs(lines[line - 1].level - lines[line].level)
    return step < 3 * pitch * lines[line].size and lines[line].angle == lines[last].angle


def _label(lines: Sequence[Line], first: int, line: int) -> bool:
    """Whether a line without cells can be a row's label or a column's heading: shorter than the table is wide."""
    left, right = _extent(lines[max(first, line - _LOOK_BACK) : line + 3])
    return lines[line].right - lines[line].left < 0.6 * (right - left)


def _extent(lines: Sequence[Line]) -> tuple[float, float]:
    """Left and right end of rows with cells."""
    rows = [line for line in lines if line.gaps]
    return min(line.left for line in rows), max(line.right for line in rows)


def _header_start(lines: Sequence[Line], first: int, last: int, floor: int) -> int:
    """Where the column headings above a table's first row begin: short lines standing over its later columns."""
    left, right = _extent(lines[first : last + 1])
    edge = left + 0.3 * (right - left)
    labels = first
    while labels > floor and first - labels < 3 and _labels(lines[labels - 1], lines[labels], edge):
        labels -= 1
    start = labels
    while start > floor and labels - start < _MOST_HEADS:
        above = lines[start - 1]
        if above.gaps or above.left < edge or above.right > right + above.size or len(above.text) > 60:
            break
        if abs(above.level - lines[start].level) > 4 * above.size:
            break
        start -= 1
    return start if start < labels else first


def _labels(line: Line, below: Line, edge: float) -> bool:
    """Whether a line may be the label of a group of rows ("Net sales:"), right above its first."""
    step = line.level - below.level
    return line.left < edge and len(line.text) < 60 and not line.gaps and 0 < step < 3 * line.size


def _table(lines: Sequence[Line]) -> _Group:
    """Rows of cells of lines. Lines stacked under one another, as in column headings, are one cell."""
    rows: list[list[list[Line]]] = []
    previous: Line | None = None
    left = min(line.left for line in lines)
    top = 0.0  # level of the row's highest line
    for line in lines:
        cells = [[cell] for cell in _cells(line)]
        if previous is None:
            rows.append(cells)
            top = line.level
        elif line.gaps:
            if abs(line.level - previous.level) < 0.3 * line.size and line.left > previous.right:
                rows[-1].extend(cells)
            else:
                rows.append(cells)
                top = line.level
        elif line.left > left + line.size and _stacked(previous, line):
            rows[-1][-1].append(line)
        elif line.left > previous.right and top + 0.5 * line.size >= line.level >= previous.level - 0.3 * line.size:
            rows[-1].append([line])
        else:
            rows.append(cells)
            top = line.level
        previous = line
    return _Group("table", list(lines), rows, _header_rows(rows))


def _stacked(above: Line, below: Line) -> bool:
    middle = (below.left + below.right) / 2
    aligned = min(abs(above.left - below.left), abs(above.right - below.right)) < below.size
    return (
        not above.gaps
        and 0 < above.level - below.level < 1.8 * below.size
        and (aligned or above.left <= middle <= above.right)
    )


def _cells(line: Line) -> list[Line]:
    """The line cut at its gaps."""
    borders = [0, *line.gaps, len(line.text)]
    cells = []
    for start, end in pairwise(borders):
        piece = line.text[start:end].rstrip()
        if piece:
            cells.append(
                Line(
                    piece,
                    line.start + start,
                    line.left,
                    line.right,
                    line.level,
                    line.size,
                    line.bold,
                    line.italic,
                    line.angle,
                )
            )
    return cells


def _header_rows(rows: Sequence[Sequence[Sequence[Line]]]) -> int:
    """How many rows from the top are column headings: those before the first row whose later cells hold figures."""
    for index, row in enumerate(rows[:6]):
        figures = [cell for cell in row[1:] if _is_figure(cell[0].text)]
        years = all(re.fullmatch(r"(19|20)\d\d", cell[0].text) for cell in figures)
        if figures and not years:
            return index if index and any(len(above) > 1 or above[0][0].bold for above in rows[:index]) else 0
    bold = rows[0] and all(line.bold for cell in rows[0] for line in cell)
    return 1 if bold and len(rows[0]) > 1 and not all(line.bold for row in rows for cell in row for line in cell) else 0


def _is_figure(text: str) -> bool:
    letters = sum(character.isalpha() for character in text)
    digits = sum(character.isdigit() for character in text)
    return digits > letters or (not letters and bool(text.strip()))


# ---------------------------------------------------------------- text with its map


class _Text:
    """The page's text as it grows, and the runs that lead back to the parser's characters."""

    def __init__(self, words: Words) -> None:
        self.length = 0
        self.runs: list[Run] = []
        self._parts: list[str] = []
        self._words = words
        self._pending = ""

    def begin_block(self) -> None:
        """Put a blank line before what is added next."""
        if self.length:
            self.separate("\n\n")

    def separate(self, separator: str) -> None:
        self._parts.append(separator)
        self.length += len(separator)

    def add_lines(self, lines: Sequence[Line]) -> None:
        """Lines of one paragraph or cell, joined by a space, or without one where a word was broken."""
        for index, line in enumerate(lines):
            text = line.text
            if index + 1 < len(lines) and text[-1] in LINE_END_HYPHENS and len(text) > 1:
                self._add(text[:-1], line.start)
                following = lines[index + 1].text
                if text[-1] in "-\u2010" and not (following[:1].islower() and text[-2].isalpha()):
                    self._add_hyphen(line)
                    if not text[-2].isalnum() or not following[:1].isalnum():
                        self.separate(" ")
                elif self._words.keeps_hyphen(text[:-1], following):
                    self._add_hyphen(line)
            else:
                self._add(text, line.start)
                if index + 1 < len(lines):
                    self.separate(" ")

    def finish(self) -> str:
        return "".join(self._parts)

    def _add_hyphen(self, line: Line) -> None:
        self._append("-", line.start + len(line.text) - 1)

    def _add(self, text: str, start: int) -> None:
        if text.isascii() and text.isprintable() and "  " not in text:
            self._append(text, start)
        else:
            for piece, origin in clean.pieces(text):
                self._append(piece, start + origin)

    def _append(self, piece: str, source: int) -> None:
        self._parts.append(piece)
        last = self.runs[-1] if self.runs else None
        if last and last.start + last.length == self.length and last.source + last.length == source:
            self.runs[-1] = Run(last.start, last.source, last.length + len(piece))
        else:
            self.runs.append(Run(self.length, source, len(piece)))
        self.length += len(piece)
