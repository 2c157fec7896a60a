"""What only the whole document shows: which blocks are headings, and what is printed on every page. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from rag.domain import Block, Page
from rag.parsing.layout import Draft

Outline = Mapping[tuple[int, str], int]
"""(page number, comparable title) → level of the entry in the document's own outline, 1 for the outermost."""

_LONGEST_HEADING = 150
_MOST_WORDS = 20
_LARGER = 1.15  # type this much larger than the body's is a heading's
_DEEPEST = 6
_RUNNING_PAGES = 3  # on how many pages something must repeat to be a running header or footer
_EDGE_BLOCKS = 3
_KINDS = (
    (0, re.compile(r"(?:part|chapter|article|appendix|exhibit|schedule|annex)\s+[\divxlc]+\b", re.IGNORECASE)),
    (1, re.compile(r"(?:item|section|§)\s*\d", re.IGNORECASE)),
    (2, re.compile(r"note\s+\d", re.IGNORECASE)),
)
_DECIMAL = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?\s")


def comparable(text: str) -> str:
    """The letters and digits of a title, for comparing it with the same title set elsewhere."""
    return "".join(character for character in text.casefold() if character.isalnum())


def blocks(pages: Sequence[Page], drafts: Sequence[Sequence[Draft]], outline: Outline) -> tuple[Block, ...]:
    """The document's blocks in reading order with their heading trails; running headers and footers are left out.

    `drafts` holds one sequence per page.
    """
    running = _running(pages, drafts)
    kept = [
        (page, draft)
        for page, row in zip(pages, drafts, strict=True)
        for draft in row
        if (page.number, draft.start) not in running
    ]
    styles = _Styles([draft for _, draft in kept])
    found: list[Block] = []
    trail: list[tuple[tuple[float, ...], str]] = []
    for page, draft in kept:
        text = page.text[draft.start : draft.end]
        key = _heading(text, page.number, draft, styles, outline)
        if key is None:
            headings = tuple(title for _, title in trail)
            found.append(
                Block(draft.kind, text, page.number, draft.start, draft.end, headings, 0, draft.header_end)  # type: ignore[arg-type]
            )
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


# ---------------------------------------------------------------- headings


class _Styles:
    """What is usual in this document: the body's type size, and whether bold type still means anything."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        sizes: Counter[float] = Counter()
        bold = total = 0
        for draft in drafts:
            length = draft.end - draft.start
            if draft.kind != "table":
                sizes[round(draft.size * 2) / 2] += length
            total += length
            bold += length if draft.bold else 0
        self.body = sizes.most_common(1)[0][0] if sizes else 0.0
        self.bold_is_rare = bold < 0.3 * total


def _heading(text: str, page: int, draft: Draft, styles: _Styles, outline: Outline) -> tuple[float, ...] | None:
    """The rank of a heading, smaller for an outer one; None when the block is no heading. When in doubt: none."""
    if draft.kind == "table" or draft.lines > 3 or len(text) > _LONGEST_HEADING:
        return None
    level = outline.get((page, comparable(text)))
    if level is not None:
        return (float(level),)
    if not _worded_like_heading(text):
        return None
    larger = draft.size >= _LARGER * styles.body
    bold = draft.bold and styles.bold_is_rare and draft.size >= 0.95 * styles.body
    if not (larger or bold):
        return None
    if draft.kind == "list" and not bold and not _DECIMAL.match(text):
        return None
    depth = float(outline_depth(outline)) if outline else 0.0
    return (depth + 1, -round(draft.size), *_numbering(text), 0.0 if text.isupper() else 1.0)


def outline_depth(outline: Outline) -> int:
    """The level of the innermost entry: what type alone shows to be a heading stands below the outline's."""
    return max(outline.values(), default=0)


def _numbering(text: str) -> tuple[float, float]:
    for rank, pattern in _KINDS:
        if pattern.match(text):
            return (float(rank), 0.0)
    decimal = _DECIMAL.match(text)
    return (3.0, float(decimal[1].count("."))) if decimal else (4.0, 0.0)


def _worded_like_heading(text: str) -> bool:
    letters = sum(character.isalpha() for character in text)
    visible = sum(not character.isspace() for character in text)
    if letters < 3 or letters < 0.5 * visible or len(text.split()) > _MOST_WORDS:
        return False
    if text[-1] in ".,;:" and not re.fullmatch(r"(?:item|part|section|article|note)\s+\w+\.", text, re.IGNORECASE):
        return False
    return not (text[0].islower() or text[0] in "([*☐☒")


# ---------------------------------------------------------------- running headers and footers


def _running(pages: Sequence[Page], drafts: Sequence[Sequence[Draft]]) -> set[tuple[int, int]]:
    """(page number, start) of blocks at a page's edge that say the same elsewhere, figures aside."""
    seen: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for page, row in zip(pages, drafts, strict=True):
        for draft in _edges(row):
            if draft.kind == "table" or draft.end - draft.start > _LONGEST_HEADING:
                continue
            words = re.sub(r"[\divxlc]+(?=\W*$)|\d+", "#", page.text[draft.start : draft.end].casefold())
            for height in {int(draft.level // 4), int((draft.level + 2) // 4)}:
                seen[words, height].append((page.number, draft.start))
    return {
        place for places in seen.values() if len({number for number, _ in places}) >= _RUNNING_PAGES for place in places
    }


def _edges(row: Sequence[Draft]) -> Iterator[Draft]:
    """The highest and lowest blocks of a page, wherever they come in reading order."""
    by_height = sorted(row, key=lambda draft: -draft.level)
    yield from by_height[:_EDGE_BLOCKS]
    yield from by_height[max(_EDGE_BLOCKS, len(by_height) - _EDGE_BLOCKS) :]
