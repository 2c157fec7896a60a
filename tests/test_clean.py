"""Text is made safe without losing where each character came from."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.parsing.clean import clean, pieces

ANY_TEXT = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from("ﬁﬀ\u00ad\u200b\u202e\ufffe\x00\r\n\t e\u0301\uf0b7\ud800Ａ²½™ſ"),
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("unclean", "expected"),
    [
        ("of\ufb01ce \ufb02oor", "office floor"),
        ("so\u00adlu\u00adtion", "solution"),
        ("a\x00b\x07c\x9fd", "abcd"),
        ("x\ud800y", "xy"),
        ("line\ufffeend", "lineend"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("a\u00a0b\u2009c\u3000d\te", "a b c d e"),
        ("a \u00a0  b", "a b"),
        ("cafe\u0301", "café"),
        ("\uff21\uff22\uff11", "AB1"),
        ("\U0001d44e\U0001d7d9", "a1"),
        ("\uf0b7 item", "• item"),
        ("\ue123hidden", "hidden"),
        ("\ufeffstart", "start"),
        ("m² ½ ™ № … ℃ ①", "m² ½ ™ № … ℃ ①"),
        ("naïve — “quoted” £5", "naïve — “quoted” £5"),
        ("क\u200dष می\u200cخواهم", "क\u200dष می\u200cخواهم"),
        ("🙂 漢字", "🙂 漢字"),
    ],
)
def test_cleaning_changes_this_and_keeps_that(unclean: str, expected: str) -> None:
    """The choices of the module's docstring, one by one."""
    assert clean(unclean) == expected


@given(ANY_TEXT)
@settings(max_examples=300, derandomize=True)
def test_every_piece_leads_back_to_its_origin(text: str) -> None:
    """A piece is its origin's characters, or stands for one unclean character or sequence there."""
    end = 0
    for piece, origin in pieces(text):
        assert 0 <= origin < len(text)
        assert origin >= end or len(piece) == 1
        if len(piece) > 1:
            assert text[origin : origin + len(piece)] == piece
        end = max(end, origin)


@given(ANY_TEXT)
@settings(max_examples=300, derandomize=True)
def test_clean_text_is_safe_to_store(text: str) -> None:
    """It can be encoded, holds no control or direction characters, and cleaning it again changes nothing."""
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert not any(unicodedata.category(character) in {"Cc", "Cs", "Co"} for character in cleaned)
    assert not set(cleaned) & set("\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2069\ufeff\ufffe")
    assert clean(cleaned) == cleaned
