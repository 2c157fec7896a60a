"""Chunks are whole sentences and rows of one section, and every piece knows its place."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.chunking import split
from rag.domain import Block, BlockKind, Chunk, Chunking, Page, Parsed

SMALL = Chunking(size=20, overlap=6)


def count_words(texts: Sequence[str]) -> list[int]:
    """One token per word, and one more for every ten characters of it."""
    return [sum(1 + len(word) // 10 for word in text.split()) for text in texts]


def document(*pages: Sequence[tuple[BlockKind, str, tuple[str, ...]]], paged: bool = True) -> Parsed:
    """Pages of (kind, text, heading trail)."""
    made, blocks = [], []
    for number, contents in enumerate(pages, 1):
        text = ""
        for kind, content, headings in contents:
            start = len(text) + (2 if text else 0)
            text += ("\n\n" if text else "") + content
            header = start + content.index("\n") if kind == "table" else 0
            level = len(headings) + 1 if kind == "heading" else 0
            blocks.append(Block(kind, content, number, start, start + len(content), headings, level, header))
        made.append(Page(number, f"p{number}", text, None))
    return Parsed(tuple(made), tuple(blocks), paged, ())


def chunks(parsed: Parsed, chunking: Chunking = SMALL) -> list[Chunk]:
    return split(parsed, "d1", "v1", chunking, count_words)


def sentence(number: int, words: int = 5) -> str:
    return f"Number{number} " + "word " * (words - 2) + "end."


def check(parsed: Parsed, found: Sequence[Chunk]) -> None:
    """What must hold of any chunks of any document."""
    pages = {page.number: page for page in parsed.pages}
    for ordinal, chunk in enumerate(found):
        assert chunk.id == f"v1x{ordinal}"
        assert chunk.id.isalnum()
        assert chunk.text
        end = 0
        for span in chunk.spans:
            assert set(chunk.text[end : span.offset]) <= set(" \n")
            end = span.offset + span.end - span.start
            assert chunk.text[span.offset : end] == pages[span.page].text[span.start : span.end]
            assert span.label == pages[span.page].label
        assert end == len(chunk.text)
    covered = {(span.page, place) for chunk in found for span in chunk.spans for place in range(span.start, span.end)}
    for block in parsed.blocks:
        for place in range(block.start, block.end):
            assert (block.page, place) in covered or pages[block.page].text[place].isspace()


def test_a_short_section_is_one_chunk_with_its_heading() -> None:
    """The heading stands in the text of its section's first chunk, and in the trail."""
    (chunk,) = chunks(document([("heading", "Leave", ("Handbook",)), ("paragraph", "25 days.", ("Handbook", "Leave"))]))
    assert chunk.text == "Leave\n\n25 days."
    assert chunk.headings == ("Handbook", "Leave")
    assert (chunk.page_first, chunk.page_last) == (1, 1)


def test_sections_are_never_mixed() -> None:
    """However short they are."""
    parsed = document([("paragraph", "One.", ("A",)), ("paragraph", "Two.", ("B",)), ("paragraph", "Three.", ("B",))])
    assert [(chunk.text, chunk.headings) for chunk in chunks(parsed)] == [("One.", ("A",)), ("Two.\n\nThree.", ("B",))]


def test_a_heading_alone_makes_no_chunk() -> None:
    """It goes with the section after it."""
    parsed = document(
        [("heading", "Part I", ()), ("heading", "Rent", ("Part I",)), ("paragraph", "Pay.", ("Part I", "Rent"))]
    )
    assert [chunk.text for chunk in chunks(parsed)] == ["Part I\n\nRent\n\nPay."]


def test_a_document_of_headings_only_is_still_indexed() -> None:
    """Slides may hold nothing else."""
    assert [chunk.text for chunk in chunks(document([("heading", "Ask", ()), ("heading", "Answer", ())]))] == [
        "Ask\n\nAnswer"
    ]


def test_long_text_is_cut_between_sentences_with_overlap() -> None:
    """Whole sentences at a chunk's end open the next one."""
    text = " ".join(sentence(number) for number in range(10))
    found = chunks(document([("paragraph", text, ())]))
    assert found[0].text == " ".join(sentence(number) for number in range(4))
    assert found[1].text.startswith(f"{sentence(3)} {sentence(4)}")
    assert all(sum(count_words([chunk.text])) <= SMALL.size * 1.2 for chunk in found)


def test_chunks_rather_end_with_a_paragraph() -> None:
    """When that leaves them full enough."""
    first = " ".join(sentence(number) for number in range(3))
    second = " ".join(sentence(number) for number in range(3, 6))
    found = chunks(document([("paragraph", first, ()), ("paragraph", second, ())]))
    assert found[0].text == first


def test_a_tables_header_is_repeated_and_rows_stay_whole() -> None:
    """Each chunk of the table begins with its header row, as a span of its own."""
    rows = [f"model{number} | {number} kg | blue" for number in range(8)]
    found = chunks(document([("table", "\n".join(["Model | Weight | Colour", *rows]), ())]))
    assert len(found) > 1
    for chunk in found:
        assert chunk.text.startswith("Model | Weight | Colour\n")
        assert set(chunk.text.split("\n")[1:]) <= set(rows)
    header = found[1].spans[0]
    assert (header.offset, header.start, header.end) == (0, 0, len("Model | Weight | Colour"))


def test_a_paragraph_goes_on_over_the_page() -> None:
    """Its halves are joined by a space, with a span on each page."""
    (chunk,) = chunks(document([("paragraph", "The tenant pays the", ())], [("paragraph", "rent monthly.", ())]))
    assert chunk.text == "The tenant pays the rent monthly."
    assert [(span.page, span.offset) for span in chunk.spans] == [(1, 0), (2, 20)]
    assert (chunk.page_first, chunk.page_last) == (1, 2)


def test_a_new_sentence_on_the_next_page_is_a_new_paragraph() -> None:
    """Only what cannot stand alone is joined."""
    (chunk,) = chunks(document([("paragraph", "Pay.", ())], [("paragraph", "Leave.", ())]))
    assert chunk.text == "Pay.\n\nLeave."


def test_formats_without_pages_have_no_page_numbers() -> None:
    """DOCX shows sections instead."""
    (chunk,) = chunks(document([("paragraph", "Pay.", ())], paged=False))
    assert (chunk.page_first, chunk.page_last) == (None, None)


def test_a_giant_word_is_cut_after_all() -> None:
    """A thousand letters without a space must not break the embedder."""
    parsed = document([("paragraph", "x" * 1000, ())])
    found = chunks(parsed)
    check(parsed, found)
    assert len(found) > 1
    assert all(len(chunk.text) < 400 for chunk in found)


def test_tokens_are_counted_in_batches() -> None:
    """One call for a document of many sentences, not one per sentence or prefix."""
    calls = []

    def counted(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return count_words(texts)

    text = " ".join(sentence(number) for number in range(100))
    split(document([("paragraph", text, ())]), "d1", "v1", SMALL, counted)
    assert calls == [100]


def test_nothing_makes_no_chunks() -> None:
    """A document without blocks is not an error here."""
    assert chunks(document([])) == []


WORD = st.one_of(st.text("abcxyzÄß漢", min_size=1, max_size=8), st.text("a", min_size=30, max_size=90))
SENTENCE = st.lists(WORD, min_size=1, max_size=20).map(lambda words: " ".join(words) + ".")
PARAGRAPH = st.lists(SENTENCE, min_size=1, max_size=5).map(" ".join)
TABLE = st.lists(st.lists(WORD, min_size=2, max_size=3).map(" | ".join), min_size=2, max_size=12).map("\n".join)
TRAIL = st.sampled_from([(), ("A",), ("A", "B"), ("C",)])
BLOCK = st.one_of(
    st.tuples(st.just("paragraph"), PARAGRAPH, TRAIL),
    st.tuples(st.just("list"), SENTENCE, TRAIL),
    st.tuples(st.just("table"), TABLE, TRAIL),
    st.tuples(st.just("heading"), st.text("HEAD", min_size=1, max_size=9), TRAIL),
)


@given(st.lists(st.lists(BLOCK, max_size=5), min_size=1, max_size=3), st.integers(10, 40), st.integers(0, 15))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_any_document_is_covered_by_chunks_that_know_their_places(
    pages: list[list[tuple[BlockKind, str, tuple[str, ...]]]], size: int, overlap: int
) -> None:
    """Spans are exact, only separators stand between them, nothing is lost, and no chunk is far too long."""
    parsed = document(*pages)
    found = chunks(parsed, Chunking(size, overlap))
    check(parsed, found)
    trails = {block.headings for block in parsed.blocks} | {
        (*block.headings, block.text) for block in parsed.blocks if block.kind == "heading"
    }
    for chunk in found:
        assert chunk.headings in trails
        assert count_words([chunk.text])[0] <= size * 6


@pytest.mark.parametrize("kind", ["paragraph", "list"])
def test_words_are_never_cut(kind: BlockKind) -> None:
    """A sentence longer than a chunk is cut between its words."""
    text = " ".join(f"word{number}" for number in range(90)) + "."
    words = set(text.split())
    for chunk in chunks(document([(kind, text, ())])):
        assert set(chunk.text.split()) <= words
