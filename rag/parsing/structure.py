"""What only the whole document shows: which blocks are headings, and what is printed on every page. Pure."""

import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from rag.domain import Block, Page
from rag.parsing.layout import Draft

Outline = Mapping[tuple[int, str], int]
"""(page number, comparable title) → level of the entry in the document's own outline, 1 for the outermost."""

_LONGEST_HEADING = 150
_MOST_WORDS = 20
_LARGER = 1.15  # type more than this times as large as the body's is a heading's
_INDENT = 6  # type sizes from the left margin; what stands further in, and not in the middle, heads a column
_RARE = 0.3  # of the characters; where more are bold, bold is no sign of a heading
_PAGE_OF_TEXT = 600  # characters; on pages with fewer the most common type size is no body's
_DEEPEST = 6
_TITLE_PAGE_HEADINGS = 4
_RUNNING_PAGES = 3  # on how many pages something must repeat to be a running header or footer
_EDGE_BLOCKS = 3
_KINDS = (
    (0, re.compile(r"(?:part|chapter|article|appendix|exhibit|schedule|annex)\s+[\divxlc]+\b", re.IGNORECASE)),
    (1, re.compile(r"(?:item|section|§)\s*\d", re.IGNORECASE)),
    (2, re.compile(r"note\s+\d", re.IGNORECASE)),
)
_FIGURES = re.compile(r"(?<!\d)\d{1,5}(?!\d)")
_FOOTNOTE_SIGN = re.compile(r"\(\d\)")
_ANYTHING = re.compile(r"[^\W_]")
_LONGEST_SPECK = 200
_FIGURED = re.compile(  # what heads a column or belongs in a row: an amount, a date alone, two years
    r"[$€£] ?\(?\d|\b(?:19|20)\d\d\b.*\b(?:19|20)\d\d\b"
    r"|^(?:[A-Z][a-z]{2,8}\.? \d{1,2}, \d{4}|\d{1,2}\.? [A-Z][a-z]{2,8} \d{4})$"
)
_DECIMAL = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?\s")


def comparable(text: str) -> str:
    """The letters and digits of a title, for comparing it with the same title set elsewhere."""
    return "".join(character for character in text.casefold() if character.isalnum())


def blocks(pages: Sequence[Page], drafts: Sequence[Sequence[Draft]], outline: Outline) -> tuple[Block, ...]:
    """The document's blocks in reading order with their heading trails; running headers and footers are left out.

    `drafts` holds one sequence per page.
    """
    written = [
        [draft for draft in row if not _speck(page.text[draft.start : draft.end], draft)]
        for page, row in zip(pages, drafts, strict=True)
    ]
    body = _without_running(pages, written, _running(pages, drafts))
    kept = [(page, draft) for page, row in zip(pages, body, strict=True) for draft in row]
    styles = _Styles(kept)
    found: list[Block] = []
    trail: list[tuple[tuple[float, ...], str]] = []
    on_title_page = True
    for page, draft in kept:
        if on_title_page and page.number > 1:
            on_title_page = False
            if sum(block.kind == "heading" for block in found) >= _TITLE_PAGE_HEADINGS:
                trail.clear()  # the lines of a title page head nothing that follows
        text = page.text[draft.start : draft.end]
        key = _heading(text, page.number, draft, styles, outline)
        if key is None:
            headings = tuple(title for _, title in trail)
            found.append(Block(draft.kind, text, page.number, draft.start, draft.end, headings, 0, draft.header_end))
            continue
        while trail and trail[-1][0] >= key:
            trail.pop()
        headings = tuple(title for _, title in trail)
        if len(trail) == _DEEPEST:
            headings = headings[:-1]
            trail.pop()
        trail.append((key, text))
        found.append(Block("heading", text, page.number, draft.start, draft.end, headings, len(trail)))
    return tuple(found)


def _speck(text: str, draft: Draft) -> bool:
    """Whether a block is no more than a mark: a lone "®", footnote signs that lost their place, a page number."""
    page_number = draft.centred and text.isdigit() and len(text) < 4
    return page_number or (len(text) < _LONGEST_SPECK and not _ANYTHING.search(_FOOTNOTE_SIGN.sub("", text)))


# ---------------------------------------------------------------- headings


class _Styles:
    """What is usual in this document and on its pages: the body's type size, and whether bold type means anything."""

    def __init__(self, drafts: Sequence[tuple[Page, Draft]]) -> None:
        sizes: Counter[float] = Counter()
        by_page: defaultdict[int, Counter[float]] = defaultdict(Counter)
        self._levels: defaultdict[int, list[float]] = defaultdict(list)
        lefts: defaultdict[int, list[float]] = defaultdict(list)
        bold = total = 0
        for page, draft in drafts:
            length = draft.end - draft.start
            if draft.kind != "table":
                sizes[round(draft.size * 2) / 2] += length
            by_page[page.number][draft.size] += length
            lefts[page.number].append(draft.left)
            self._levels[page.number].append(draft.level)
            total += length
            bold += length if draft.bold else 0
        self.bold_is_rare = bold < _RARE * total
        for levels in self._levels.values():
            levels.sort()
        self._lefts = {number: min(found) for number, found in lefts.items()}
        self._body = sizes.most_common(1)[0][0] if sizes else 0.0
        self._pages = {
            number: found.most_common(1)[0][0] for number, found in by_page.items() if found.total() > _PAGE_OF_TEXT
        }

    def relative_size(self, page: int, draft: Draft) -> float:
        """The block's type size, 1.0 for the body's. Printers shrink single pages: then the page's own body counts."""
        if draft.size >= self._body:
            return round(draft.size / max(self._body, 0.1), 1)
        return min(1.0, round(draft.size / self._pages.get(page, self._body), 1))

    def stands_alone(self, page: int, draft: Draft) -> bool:
        """Whether no other block begins beside this one, as the headings of other columns do."""
        levels, near = self._levels[page], 0.6 * draft.size
        return bisect(levels, draft.level + near) - bisect(levels, draft.level - near) == 1

    def left(self, page: int) -> float:
        """The left margin of a page's text."""
        return self._lefts[page]


def _heading(text: str, page: int, draft: Draft, styles: _Styles, outline: Outline) -> tuple[float, ...] | None:
    """The rank of a heading, smaller for an outer one; None when the block is no heading. When in doubt: none."""
    if draft.kind == "table" or draft.lines > 3 or len(text) > _LONGEST_HEADING:
        return None
    level = outline.get((page, comparable(text)))
    if level is not None:
        return (float(level),)
    if not (_worded_like_heading(text) and _set_like_heading(text, page, draft, styles)):
        return None
    size = styles.relative_size(page, draft)
    return (_deepest(outline) + 1, -size if size > _LARGER else -1.0, *_numbering(text), 0.0 if text.isupper() else 1.0)


def _set_like_heading(text: str, page: int, draft: Draft, styles: _Styles) -> bool:
    if not styles.stands_alone(page, draft):
        return False
    size = styles.relative_size(page, draft)
    if _named(text, draft) and size >= 1:
        return True
    if not (draft.centred or draft.left < styles.left(page) + _INDENT * draft.size):
        return False
    if draft.kind == "list" and not (draft.bold or _DECIMAL.match(text)):
        return False
    return size > _LARGER or (size >= 1 and draft.bold and styles.bold_is_rare)


def _named(text: str, draft: Draft) -> bool:
    """Whether a block calls itself a part of the document ("ARTICLE IV", "Item 2"), and is set apart somehow."""
    set_apart = draft.centred or draft.bold or text.split(maxsplit=1)[0].isupper()
    return set_apart and any(pattern.match(text) for _, pattern in _KINDS)


def _deepest(outline: Outline) -> float:
    """The level of the innermost entry: what type alone shows to be a heading stands below the outline's."""
    return float(max(outline.values(), default=0))


def _numbering(text: str) -> tuple[float, float]:
    for rank, pattern in _KINDS:
        if pattern.match(text):
            return (float(rank), 0.0)
    decimal = _DECIMAL.match(text)
    return (3.0, float(decimal[1].count("."))) if decimal else (4.0, 0.0)


def _worded_like_heading(text: str) -> bool:
    letters = sum(character.isalpha() for character in text)
    visible = sum(not character.isspace() for character in text)
    if letters < 4 or letters < 0.5 * visible or len(text.split()) > _MOST_WORDS:
        return False
    if text[-1] in ".,;:" and not re.fullmatch(r"(?:item|part|section|article|note)\s+\w+\.", text, re.IGNORECASE):
        return False
    return not (text[0].islower() or text[0] in "([*☐☒$" or text.count("(") != text.count(")") or _FIGURED.search(text))


# ---------------------------------------------------------------- running headers and footers


def _running(pages: Sequence[Page], drafts: Sequence[Sequence[Draft]]) -> set[tuple[int, int]]:
    """(page number, start) of blocks that repeat at the edges of pages.

    They say the same, or the same but for a figure that grows with the page number, at the same height or as the
    outermost block ("Chapter 2", "Chapter 3" do not: their figures do not keep pace with the pages).
    """
    seen: defaultdict[tuple[object, ...], set[tuple[int, int]]] = defaultdict(set)
    for page, row in zip(pages, drafts, strict=True):
        for draft, places in _edges(row):
            text = page.text[draft.start : draft.end].casefold()
            if draft.kind == "table" or len(text) > _LONGEST_HEADING:
                continue
            readings = {(text, 0)} | {
                (text[: number.start()] + "#" + text[number.end() :], int(number.group()) - page.number)
                for number in _FIGURES.finditer(text)
            }
            for place in places:
                for reading in readings:
                    seen[(*reading, place)].add((page.number, draft.start))
    return {
        place for places in seen.values() if len({number for number, _ in places}) >= _RUNNING_PAGES for place in places
    }


def _without_running(
    pages: Sequence[Page], drafts: Sequence[Sequence[Draft]], running: Collection[tuple[int, int]]
) -> Sequence[Sequence[Draft]]:
    """The blocks of each page but for the running ones, never all of a page's.

    A page that says nothing else keeps them; where that is most of the pages, what repeats is the document's text.
    """
    left = [
        [draft for draft in row if (page.number, draft.start) not in running]
        for page, row in zip(pages, drafts, strict=True)
    ]
    if sum(map(bool, left)) < sum(map(bool, drafts)) / 2:
        return drafts
    return [rest or row for rest, row in zip(left, drafts, strict=True)]


def _edges(row: Sequence[Draft]) -> Iterator[tuple[Draft, set[object]]]:
    """The highest and lowest blocks of a page, wherever they come in reading order, and names for where they stand."""
    by_height = sorted(row, key=lambda draft: -draft.level)
    for rank, draft in enumerate(by_height):
        from_bottom = len(by_height) - 1 - rank
        if min(rank, from_bottom) < _EDGE_BLOCKS:
            # Two rasters, half a step apart: what differs by a point is the same height in one of them.
            places: set[object] = {("height", draft.level // 4), ("height and a half", (draft.level + 2) // 4)}
            if rank == 0:
                places.add("top")
            if from_bottom == 0:
                places.add("bottom")
            yield draft, places
