"""rag.openrouter.thinking: thoughts and answer told apart, however the text is cut."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.domain import ReasoningDelta, TextDelta
from rag.openrouter.thinking import Piece, Thinking, said


def read(pieces: Sequence[str], thinking: Thinking | None = None, complete: bool = True) -> tuple[str, str]:
    """What these pieces of a reply think, and what they say."""
    thinking = thinking or Thinking()
    found: list[Piece] = [piece for text in pieces for piece in thinking.feed(text)]
    found += thinking.finish(complete)
    assert all(piece.text for piece in found)
    thoughts = "".join(piece.text for piece in found if isinstance(piece, ReasoningDelta))
    return thoughts, "".join(piece.text for piece in found if isinstance(piece, TextDelta))


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> list[str]:
    """A text in pieces, cut anywhere."""
    text = draw(texts)
    ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=len(text))))
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


# Texts that are almost tags are what can go wrong.
TAGGED = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "</", "think", ">", "thi", "\n", " ", "a", "é", "<b>"]), max_size=12
).map("".join)
UNTAGGED = TAGGED.filter(lambda text: "<think>" not in text and "</think>" not in text)
SPOKEN = UNTAGGED.map(lambda text: f"x{text}")


@given(cut(TAGGED), st.booleans())
def test_a_cut_anywhere_changes_nothing(pieces: Sequence[str], opened: bool) -> None:
    """Thoughts and answer are those of the text in one piece."""
    assert read(pieces, Thinking(opened)) == read(["".join(pieces)], Thinking(opened))


@given(cut(UNTAGGED))
def test_a_reply_without_thoughts_is_passed_on_unchanged(pieces: Sequence[str]) -> None:
    """White space and beginnings of tags included."""
    assert read(pieces) == ("", "".join(pieces))


@given(st.sampled_from(["", " ", "\n\n"]), UNTAGGED, st.sampled_from(["", "\n\n"]), SPOKEN, st.data())
def test_a_leading_block_is_thought(lead: str, thoughts: str, gap: str, answer: str, data: st.DataObject) -> None:
    """All within the tags, and nothing else; white space around the block is dropped."""
    pieces = data.draw(cut(st.just(f"{lead}<think>{thoughts}</think>{gap}{answer}")))
    assert read(pieces) == (thoughts, answer)


def test_several_leading_blocks_are_thought() -> None:
    """Some models think in steps."""
    assert read(["<think>a</think>\n<think>b</think>\n\nc"]) == ("ab", "c")


def test_tags_after_the_first_word_are_text() -> None:
    """An answer may quote them."""
    assert read(["Write <think> before </think> after."], None)[1].startswith("Write <think> before ")


def test_tags_after_thoughts_are_text() -> None:
    """The thoughts have ended, so it can only be a quotation."""
    assert read(["<think>a</think>The tag </think> ends <think>."]) == ("a", "The tag </think> ends <think>.")


def test_what_cannot_be_a_tag_is_not_held_back() -> None:
    """Text is passed on as it comes."""
    thinking = Thinking()
    assert [thinking.feed(text) for text in ("<", "b", ">bold", " <")] == [
        [],
        [TextDelta("<b")],
        [TextDelta(">bold")],
        [TextDelta(" ")],
    ]


def test_thoughts_are_passed_on_as_they_come() -> None:
    """Nobody waits for the closing tag."""
    thinking = Thinking()
    assert thinking.feed("<think>one </thi") == [ReasoningDelta("one ")]
    assert thinking.feed("s") == [ReasoningDelta("</this")]


@pytest.mark.parametrize("complete", [True, False])
def test_thoughts_that_never_end_are_no_answer(complete: bool) -> None:
    """Not even their last characters."""
    assert read(["<think>one </thi"], complete=complete) == ("one </thi", "")


def test_endless_white_space_is_not_held_back() -> None:
    """Only so much is looked at for a tag."""
    thinking = Thinking()
    assert thinking.feed(" " * 1000) == [TextDelta(" " * 1000)]


# ---------------------------------------------------------------- opened by the prompt


def test_a_closing_tag_alone_ends_what_was_passed_on_as_text() -> None:
    """It cannot be taken back; the tag is dropped, the answer begins a new paragraph."""
    assert read(["It asks about fees", ".</think>\n\nTwelve."]) == ("", "It asks about fees.\n\nTwelve.")


def test_a_closing_tag_alone_is_learned_from() -> None:
    """The next reply of the model is expected to begin amid thoughts."""
    thinking = Thinking()
    read(["a</think>b"], thinking)
    assert thinking.opened


@given(UNTAGGED, SPOKEN, st.data())
def test_a_reply_expected_to_begin_amid_thoughts_does(thoughts: str, answer: str, data: st.DataObject) -> None:
    """Up to the closing tag; the expectation stays."""
    thinking = Thinking(opened=True)
    pieces = data.draw(cut(st.just(f"x{thoughts}</think>\n\n{answer}")))
    assert read(pieces, thinking) == (f"x{thoughts}", answer)
    assert thinking.opened


def test_an_expectation_that_fails_is_dropped() -> None:
    """A whole reply without a closing tag was the answer, though it was taken for thoughts as it came."""
    thinking = Thinking(opened=True)
    assert read(["Twelve ", "euros."], thinking) == ("Twelve euros.", "Twelve euros.")
    assert not thinking.opened


def test_a_cut_reply_says_nothing_about_the_expectation() -> None:
    """It may have been cut off amid thoughts: nothing of it is an answer."""
    thinking = Thinking(opened=True)
    assert read(["Twelve ", "eur"], thinking, complete=False) == ("Twelve eur", "")
    assert thinking.opened


def test_an_opening_tag_of_its_own_ends_the_expectation() -> None:
    """The model opens its thoughts itself."""
    thinking = Thinking(opened=True)
    assert read(["<think>a</think>b"], thinking) == ("a", "b")
    assert not thinking.opened


# ---------------------------------------------------------------- whole replies


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("plain", "plain"),
        ("<think>a {}</think>\n{}", "{}"),
        ("a {}</think>\n{}", "{}"),
        ('{"reason": "the tag </think>"}', '{"reason": "the tag </think>"}'),
        ('```json\n{"reason": "</think>"}\n```', '```json\n{"reason": "</think>"}\n```'),
        ("<think>never ends", ""),
    ],
)
def test_a_whole_reply_is_left_without_its_thoughts(content: str, answer: str) -> None:
    """With either tag missing too; a tag within JSON is none."""
    assert said(content) == answer
