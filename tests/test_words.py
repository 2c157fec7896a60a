import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.words import LONGEST_SENTENCE, LONGEST_TERM, sentences, terms, words


def pieces(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The tenants were renting", ["tenant", "rent"]),
        ("the landlord's keys, O'Brien’s keys", ["landlord", "key", "o", "brien", "key"]),
        ("Rent isn't what they've paid", ["rent", "paid"]),
        ("Café CAFÉ cafe\u0301", ["cafe", "cafe", "cafe"]),
        ("Ｆｕｌｌ ﬁrst Straße", ["full", "first", "strass"]),
        ("ABC-1234", ["abc1234", "abc", "1234"]),
        ("FY2018", ["fy2018", "fy", "2018"]),
        ("form 10-Q", ["form", "10q", "10", "q"]),
        ("v1.2.3", ["v1.2.3", "v", "1.2.3"]),
        ("7.5%", ["7.5%", "7.5", "percent"]),
        ("$1,234,567", ["1234567"]),
        ("1990s 10th", ["1990s", "1990", "10th", "10"]),
        ("co-branding and/or", ["co", "brand"]),
        ("U.S. R&D", ["us", "rd"]),
        ("東京都", ["東京", "京都"]),
        ("한국어", ["한국", "국어"]),
        ("ภาษา", ["ภา", "าษ", "ษา"]),
        ("हिन्दी", ["हिन्दी"]),
        ("水 ", ["水"]),
        (" …— ", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    """Each kind of word becomes the index terms it is searched by."""
    assert terms(text) == expected


def test_spellings_of_an_identifier_meet() -> None:
    """A part number is found however it is joined, and by each of its parts."""
    assert terms("ABC1234")[0] == terms("abc_1234")[0] == terms("ABC-1234")[0]
    assert {"abc", "1234"} < set(terms("ABC-1234"))


def test_percent_sign_is_the_word() -> None:
    """ "7.5%" is found by "7.5 percent"."""
    assert set(terms("7.5 percent")) <= set(terms("7.5%"))


def test_numbers_keep_their_borders() -> None:
    """A range of numbers never becomes another number."""
    assert "12" not in terms("pages 1-2")


def test_question_of_stop_words_only_still_has_terms() -> None:
    """ "Who are you?" must not become an empty search."""
    assert terms("Who are you?") == ["who", "are", "you"]


def test_capitals_tell_names_from_stop_words() -> None:
    """IT and the WHO are names, unless the whole text is in capitals."""
    assert terms("it is the IT department") == ["it", "depart"]
    assert terms("IS IT THE DEPARTMENT") == ["depart"]


def test_offsets_are_of_the_text_as_given() -> None:
    """Normalising never moves an offset: a highlight lights what was written."""
    text = "ﬁrst Cafe\u0301 10-Q 東京都 of ｆｕｌｌ price"
    assert [text[word.start : word.start + len(word.surface)] for word in words(text)] == [
        "ﬁrst", "Cafe\u0301", "10-Q", "10", "Q", "東京", "京都", "ｆｕｌｌ", "price"
    ]  # fmt: skip


def test_terms_are_short() -> None:
    """A run of characters without end does not become a term without end."""
    assert max(map(len, terms("x" * 5000 + " " + "a-1" * 5000))) <= LONGEST_TERM


def test_threads_stem_alike() -> None:
    """Threads may analyse at the same time (one stemmer must not serve two of them)."""
    texts = [" ".join(f"renting{i} houses{i * 7} quickly{i}" for i in range(n, n + 200)) for n in range(8)]
    expected = [terms(text) for text in texts]
    got: dict[int, list[str]] = {}

    def run(index: int) -> None:
        got[index] = terms(texts[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[index] for index in range(8)] == expected


@given(st.text())
def test_any_text_has_words_at_their_offsets(text: str) -> None:
    """Whatever the text holds, each word stands where it says and has a term."""
    for word in words(text):
        assert text.startswith(word.surface, word.start)
        assert 0 < len(word.stem) <= LONGEST_TERM
        assert len(word.stem.split()) == 1


def test_a_term_has_no_space() -> None:
    """A sign that stands for several words is still one term (the keyword index separates terms by spaces)."""
    assert len(terms("ﷺ")[0].split()) == 1


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    "sentence",
    [
        "Mr. Smith met Dr. J. R. Doe of Acme Inc. and left.",
        "The U.S. Army stayed, e.g. Company B, at 3 p.m. on Jan. 5.",
        "Pay 3.5 percent, see No. 5, Sec. 3.2 and pp. 4 to 7.",
        "3.2. Payment is due.",
        "(a) The fee… is due.",
        '"Why?" he asked.',
        "Version v1.2.3 of example.com is out.",
    ],
)
def test_full_stops_inside_a_sentence(sentence: str) -> None:
    """Abbreviations, initials, decimals and numbering end no sentence."""
    assert pieces(f"It is so. {sentence} Then more.") == ["It is so.", sentence, "Then more."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("The lessor is Acme Inc. The lessee pays.", ["The lessor is Acme Inc.", "The lessee pays."]),
        ("In 2019. In 2020!  Why?", ["In 2019.", "In 2020!", "Why?"]),
        ("(It is late.) “Go.” They went.", ["(It is late.)", "“Go.”", "They went."]),
        ("今日は。「明日！」終わり", ["今日は。", "「明日！」", "終わり"]),
        ("Heading\nTwo lines\r\n\r\nEnd", ["Heading", "Two lines", "End"]),
        ("one | two\nthree | four", ["one | two", "three | four"]),
        ("  \n \t", []),
        ("", []),
    ],
)
def test_borders(text: str, expected: list[str]) -> None:
    """Full stops with their closing quotes, CJK stops and every line end are borders; no span is empty."""
    assert pieces(text) == expected


def test_long_sentence_is_cut_between_words() -> None:
    """A sentence of a whole page becomes highlights of a readable size, and no word is lost or cut."""
    text = "lorem ipsum dolor " * 1000
    found = pieces(text)
    assert max(map(len, found)) <= LONGEST_SENTENCE
    assert " ".join(found) == text.strip()


def test_long_sentence_is_cut_after_a_clause() -> None:
    """Where a long sentence has clauses, it is cut between them."""
    text = (
        "the tenant pays the rent on the first day of each month and keeps the garden " * 6 + "; " + "and so on " * 20
    )
    assert pieces(text)[0].endswith(";")


@pytest.mark.parametrize(
    "hostile",
    [".", ". ", "a-", '."', " ", "\n", "'", "1,", "a.b", "_", "a\u0301", "東", "x", "?)", "U.S. ", ". (", "1,000"],
)
def test_hostile_repetition(hostile: str) -> None:
    """A hundred thousand characters of one thing are read once: spans stay in order, apart, short and trimmed."""
    text = (hostile * 100_000)[:100_000] + "z"
    words(text)
    end = 0
    for start, stop in sentences(text):
        assert end <= start < stop <= start + LONGEST_SENTENCE
        assert not text[start].isspace()
        assert not text[stop - 1].isspace()
        end = stop


@given(st.text(alphabet=st.sampled_from("aA1.!?\"') (\n。東;\u0301")))
def test_sentences_lose_nothing(text: str) -> None:
    """What is outside every sentence is white space."""
    end = 0
    for start, stop in sentences(text):
        assert text[end:start].strip() == ""
        assert text[start:stop].strip() == text[start:stop] != ""
        end = stop
    assert text[end:].strip() == ""
