"""Blocks → chunks: passages of about the same number of tokens that never cross a section. Pure.

A chunk is made of whole sentences and whole table rows; sentences at its end are repeated at the start of the next
one. A table that goes on in the next chunk has its header row there again.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rag.domain import Block, Chunk, Chunking, Page, Parsed, Span
from rag.words import sentences

CountTokens = Callable[[Sequence[str]], list[int]]

_TOLERANCE = 1.2  # a section's end, or a table, may make a chunk this much longer than asked
_FULL_ENOUGH = 0.6  # from here on a chunk rather ends with its paragraph than amid the next
_LONGEST_ROW = 4  # in multiples of the size: longer rows are cut after all
_TOKENS_A_BATCH = 4096  # texts counted at a time
_UNFINISHED = re.compile(r"[^.!?:;…。！？]$")


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is never cut: a sentence, a heading, a table's row, or a part of one that is longer than a chunk.

    `block` numbers the paragraph, list item or table it belongs to; `header` is where that table's header stands, for
    rows below it; `continues` says that the paragraph began on the page before.
    """

    page: int
    start: int
    end: int
    block: int
    kind: str
    headings: tuple[str, ...]
    tokens: int = 0
    header: tuple[int, int, int] | None = None
    continues: bool = False


def split(
    parsed: Parsed, document_id: str, version_id: str, chunking: Chunking, count_tokens: CountTokens
) -> list[Chunk]:
    """The chunks of a document in reading order, of about `chunking.size` tokens, at most 1.2 times as many.

    Only a table's row may be longer (up to four times). `count_tokens` is given many texts at a time.
    """
    pages = {page.number: page for page in parsed.pages}
    units = _fitting(_units(parsed.blocks), pages, chunking.size, count_tokens)
    chunks: list[Chunk] = []
    for section in _sections(units):
        for members in _fill(section, chunking):
            text, spans = _text(members, pages)
            chunks.append(
                Chunk(
                    id=f"{version_id}x{len(chunks)}",
                    document_id=document_id,
                    version_id=version_id,
                    ordinal=len(chunks),
                    text=text,
                    page_first=spans[0].page if parsed.paged else None,
                    page_last=spans[-1].page if parsed.paged else None,
                    headings=members[-1].headings,
                    spans=spans,
                )
            )
    return chunks


# ---------------------------------------------------------------- blocks → units


def _units(blocks: Sequence[Block]) -> list[_Unit]:
    units: list[_Unit] = []
    before: Block | None = None
    for number, block in enumerate(blocks):
        if block.kind == "heading":
            trail = (*block.headings, block.text)
            units.append(_Unit(block.page, block.start, block.end, number, "heading", trail))
        elif block.kind == "table":
            units.extend(_rows(block, number))
        else:
            continues = before is not None and _goes_on(before, block)
            for start, end in sentences(block.text):
                units.append(
                    _Unit(
                        block.page,
                        block.start + start,
                        block.start + end,
                        number,
                        "sentence",
                        block.headings,
                        continues=continues and start == 0,
                    )
                )
        before = block
    return units


def _goes_on(before: Block, block: Block) -> bool:
    return (
        before.kind in ("paragraph", "list")
        and block.kind == "paragraph"
        and block.page == before.page + 1
        and block.headings == before.headings
        and bool(_UNFINISHED.search(before.text))
        and block.text[0].islower()
    )


def _rows(table: Block, number: int) -> Iterator[_Unit]:
    header = (table.page, table.start, table.header_end) if table.header_end else None
    position = table.start
    for row in table.text.split("\n"):
        end = position + len(row)
        if row.strip():
            below = header if header and position >= header[2] else None
            yield _Unit(table.page, position, end, number, "row", table.headings, header=below)
        position = end + 1


def _fitting(units: list[_Unit], pages: dict[int, Page], size: int, count_tokens: CountTokens) -> list[_Unit]:
    """The same units with their tokens counted, those longer than a chunk cut between words."""
    counted = _counted(units, pages, count_tokens)
    fitting: list[_Unit] = []
    for unit in counted:
        most = size * _LONGEST_ROW if unit.kind == "row" else size
        fitting.extend([unit] if unit.tokens <= most else _cut(unit, pages, size, count_tokens))
    return fitting


def _counted(units: Sequence[_Unit], pages: dict[int, Page], count_tokens: CountTokens) -> list[_Unit]:
    counted: list[_Unit] = []
    for first in range(0, len(units), _TOKENS_A_BATCH):
        batch = units[first : first + _TOKENS_A_BATCH]
        counts = count_tokens([pages[unit.page].text[unit.start : unit.end] for unit in batch])
        counted.extend(replace(unit, tokens=count) for unit, count in zip(batch, counts, strict=True))
    return counted


def _cut(unit: _Unit, pages: dict[int, Page], size: int, count_tokens: CountTokens) -> list[_Unit]:
    """Parts of at most `size` tokens, cut between words; a word longer than that is cut anywhere."""
    text = pages[unit.page].text
    words = [
        replace(unit, start=start, end=min(start + size, match.end() + unit.start))
        for match in re.finditer(r"\S+", text[unit.start : unit.end])
        for start in range(match.start() + unit.start, match.end() + unit.start, size)
    ]
    parts: list[_Unit] = []
    for word in _counted(words, pages, count_tokens):
        if parts and parts[-1].tokens + word.tokens <= size:
            parts[-1] = replace(parts[-1], end=word.end, tokens=parts[-1].tokens + word.tokens)
        else:
            parts.append(replace(word, continues=unit.continues and not parts))
    return parts


# ---------------------------------------------------------------- units → chunks


def _sections(units: Sequence[_Unit]) -> Iterator[list[_Unit]]:
    """Units of one section each; headings without any text of their own go with the section after them."""
    waiting: list[_Unit] = []
    for _, group in groupby(units, key=lambda unit: unit.headings):
        waiting.extend(group)
        if waiting[-1].kind != "heading":
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _fill(section: Sequence[_Unit], chunking: Chunking) -> Iterator[list[_Unit]]:
    """Chunks of one section: as many units as fit, ending with a paragraph where that leaves it full enough."""
    first = 0
    overlap: list[_Unit] = []
    while first < len(section):
        last = _end(section, first, sum(unit.tokens for unit in overlap), chunking.size)
        members = [*overlap, *section[first:last]]
        yield members
        overlap = _overlap(members, chunking.overlap) if last < len(section) else []
        first = last


def _end(section: Sequence[_Unit], first: int, taken: int, size: int) -> int:
    """The index after the last unit of the chunk that starts with unit `first` and `taken` tokens of overlap."""
    tokens = taken
    end = first
    while end < len(section) and (end == first or tokens + section[end].tokens <= size):
        tokens += section[end].tokens
        end += 1
    rest = sum(unit.tokens for unit in section[end : end + size])
    if end == len(section) or tokens + rest <= size * _TOLERANCE:
        return len(section) if tokens + rest <= size * _TOLERANCE else end
    # End with a paragraph, or before a heading, if that leaves enough.
    for border in range(end, first, -1):
        tokens -= section[border].tokens if border < end else 0
        if tokens < size * _FULL_ENOUGH:
            break
        if section[border].block != section[border - 1].block and section[border - 1].kind != "heading":
            return border
    return end


def _overlap(members: Sequence[_Unit], most: int) -> list[_Unit]:
    """The sentences at a chunk's end that the next chunk repeats."""
    tokens = 0
    first = len(members)
    while first > 1 and members[first - 1].kind == "sentence":
        tokens += members[first - 1].tokens
        if tokens > most:
            break
        first -= 1
    return list(members[first:])


# ---------------------------------------------------------------- text and spans


def _text(members: Sequence[_Unit], pages: dict[int, Page]) -> tuple[str, tuple[Span, ...]]:
    """The chunk's text and where its pieces stand. Neighbours on a page are one piece, separators included."""
    pieces: list[tuple[int, int, int, str]] = []  # page, start, end, separator before
    if members[0].header:
        pieces.append((*members[0].header, ""))
    before: _Unit | None = None
    for unit in members:
        if before and before.page == unit.page and not pages[unit.page].text[before.end : unit.start].strip():
            page, start, _, separator = pieces[-1]
            pieces[-1] = (page, start, unit.end, separator)
        else:
            pieces.append((unit.page, unit.start, unit.end, _separator(before, unit, bool(pieces))))
        before = unit
    text = ""
    spans = []
    for number, start, end, separator in pieces:
        text += separator
        spans.append(Span(len(text), number, pages[number].label, start, end))
        text += pages[number].text[start:end]
    return text, tuple(spans)


def _separator(before: _Unit | None, unit: _Unit, after_header: bool) -> str:
    if before is None:
        return "\n" if after_header else ""
    if unit.continues or before.block == unit.block:
        return "\n" if unit.kind == "row" else " "
    return "\n\n"


def pictured(parsed: Parsed, document_id: str, version_id: str, first: int) -> list[Chunk]:
    """One chunk per picture of a document, numbered from `first` on; its text is its caption."""
    return [
        Chunk(
            id=f"{version_id}x{first + index}",
            document_id=document_id,
            version_id=version_id,
            ordinal=first + index,
            text=figure.caption,
            page_first=figure.page if parsed.paged else None,
            page_last=figure.page if parsed.paged else None,
            headings=figure.headings,
            spans=(Span(0, figure.page, figure.label, 0, 0),),
            figure=figure.image.key,
        )
        for index, figure in enumerate(parsed.figures)
    ]
