"""The one analyzer: what counts as a word and where sentences end, for the keyword index, the reranker and citations.

A word's `stem` is its index term: NFKC, casefold, diacritics off, English Snowball stem. Identifiers and numbers
("ABC-1234", "FY2018", "10-Q", "v1.2.3", "7.5%") give a term for the whole and one for each part; scripts written
without spaces give overlapping pairs of characters. Both functions take time linear in the text, whatever it holds.
"""

import re
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import Stemmer

ANALYZER = 1  # add one with every change to what `terms` returns: keyword indexes made before are then built anew

LONGEST_TERM = 64  # characters; longer runs are no words and would only bloat the index
LONGEST_SENTENCE = 600  # characters; what is longer is cut so that a highlight stays readable


def _listed(entries: str) -> frozenset[str]:
    return frozenset(entries.split())


# Words too common to tell one passage from another; they get no index term.
STOP_WORDS = _listed("""
    a an the this that these those such same own each any all both few more most other some no nor not only so than too
    and or but if then else while because as until of at by for with about against between into through during before
    after above below to from up down in out on off over under again further once here there
    i me my we our ours you your yours he him his she her hers it its they them their theirs
    am is are was were be been being have has had having do does did doing can could will would shall should may might
    must just now very also
    what which who whom whose when where why how many much
    eg ie etc per within among
    s nd th
    """)


@dataclass(frozen=True, slots=True)
class Word:
    """A word as written (`surface`, at offset `start`) and its index term."""

    surface: str
    stem: str
    start: int


# ---------------------------------------------------------------- words

# Thai, Lao, Myanmar, Hangul, Khmer, kana and Han: written without spaces, or (Hangul) with endings grown on.
_UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3041-\u309f\u30a1-\u30fa\u30fc-\u318f"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_is_unspaced = re.compile(f"[{_UNSPACED}]").match
# Accents and vowel signs that follow their letter; the re module does not count them among word characters.
_MARKS = "".join(
    sign for sign in map(chr, range(0x300, 0x3000)) if unicodedata.category(sign)[0] == "M" and not _is_unspaced(sign)
)
_LETTERS = rf"[^\W_{_UNSPACED}]++(?:[{_MARKS}]++[^\W_{_UNSPACED}]*+)*+"
_TOKEN = re.compile(
    rf"[{_UNSPACED}]++"
    rf"|{_LETTERS}(?:(?:[-‐‑./&@'’]|_++|(?<=\d),(?=\d\d\d(?!\d))){_LETTERS})*+(?:(?<=\d)%)?"
)
_SUFFIX = re.compile("['’](?:s|ll|ve|re|d|m)$", re.IGNORECASE)
_NEGATION = re.compile("n['’]t$", re.IGNORECASE)
_ACRONYM = re.compile(r"[^\W\d_](?:[./&][^\W\d_])++")
_PART = re.compile(rf"\d++(?:[.,]\d++)*+|[^\W\d_]++(?:[{_MARKS}]++[^\W\d_]*+)*+|%")
_IDENTIFIER = re.compile(r"[\d_.&@]")
_JOINT = re.compile(r"(?<!\d)[-‐‑_&]|[-‐‑_&](?!\d)|,")
_DIACRITICS = re.compile("[\u0300-\u036f]+")


class _Stemmers(threading.local):
    """A Snowball stemmer per thread: one instance must not serve two threads at a time."""

    def __init__(self) -> None:
        self.english = Stemmer.Stemmer("english", 0)


_stemmers = _Stemmers()


def words(text: str) -> list[Word]:
    """The content words in order; all words where there are no others ("Who are you?")."""
    return list(_analyse(text, with_stop_words=False)) or list(_analyse(text, with_stop_words=True))


def terms(text: str) -> list[str]:
    """The stems of `words(text)`: what the keyword index stores and searches."""
    return [word.stem for word in words(text)]


def _analyse(text: str, *, with_stop_words: bool) -> Iterator[Word]:
    """The words in order. "IT" and "WHO" are names and no stop words, unless everything is in capitals."""
    capitals_tell = not text.isupper()
    for match in _TOKEN.finditer(text):
        token = match.group()
        for surface, offset in [(token, 0)] if token.isascii() and token.isalpha() else _split(token):
            stem, stop = _term(surface)
            if not stop or with_stop_words or (capitals_tell and len(surface) > 1 and surface.isupper()):
                yield Word(surface, stem, match.start() + offset)


def _split(token: str) -> Iterator[tuple[str, int]]:
    """The words of a token with their offsets: an identifier as a whole comes before its parts."""
    if _is_unspaced(token):
        for start in range(max(len(token) - 1, 1)):
            yield token[start : start + 2], start
    elif not _NEGATION.search(token):  # "don't" says no more than "not", a stop word
        token = _SUFFIX.sub("", token)
        parts = _PART.findall(token)
        acronym = _ACRONYM.fullmatch(token) is not None
        if len(parts) > 1 and len(token) <= LONGEST_TERM and (acronym or _IDENTIFIER.search(token)):
            yield token, 0
        if not acronym:
            yield from ((part.group(), part.start()) for part in _PART.finditer(token))


@lru_cache(maxsize=50_000)
def _term(surface: str) -> tuple[str, bool]:
    """The index term of a word, and whether it is a stop word."""
    folded = _fold(surface) or surface
    stem: str = _stemmers.english.stemWord(folded)
    return stem, folded in STOP_WORDS


def _fold(surface: str) -> str:
    """One spelling for all ways to write a word: "Ｃａｆé" and "cafe", "10-Q" and "10Q", "1,000" and "1000"."""
    if surface.isascii() and surface.isalpha():
        return surface.lower()[:LONGEST_TERM]
    if surface == "%":
        return "percent"
    if _ACRONYM.fullmatch(surface):
        surface = "".join(filter(str.isalpha, surface))
    folded = unicodedata.normalize("NFKC", surface).casefold()
    bare = unicodedata.normalize("NFC", _DIACRITICS.sub("", unicodedata.normalize("NFD", folded)))
    # NFKC writes a few signs as several words; a term has no space, since the keyword index separates terms by them.
    return "".join(_JOINT.sub("", bare).split())[:LONGEST_TERM]


# ---------------------------------------------------------------- sentences

# What may end a sentence, with the quotes and brackets closing after it. It matches wherever it begins, and nothing
# in it can be given back, so that a page of full stops costs no more than a page of letters.
_STOP = re.compile("[.!?…]++[\"'”’»)\\]]*+|[。！？｡][」』”’）》]*+|[\n\r\v\f\x85\u2028\u2029]")
_BEFORE_A_WORD = " \t\xa0\"'“‘„«(["
_NO_WORD = re.compile(r"[^\w.]")
_NUMBERING = re.compile(r"[\s(]*(?:\d{1,3}(?:\.\d{1,3})*|[ivxlc]{1,5}|[IVXLC]{1,5}|[a-zA-Z])")

# A full stop after these never ends a sentence, ...
_BEFORE_NAMES = _listed("mr mrs ms dr prof st gen col capt lt sgt rev hon vs cf e.g i.e viz approx ca esp incl")
# ... after these not before a number, ...
_BEFORE_NUMBERS = _listed("no nos nr sec sect art arts fig figs eq p pp vol ch ex para paras cl clause item ref")
# ... and after these or a single letter only when the next word begins sentences ("Acme Inc. The lessor ...").
_OFTEN_INSIDE = _listed("""
    inc co corp ltd llc plc jr sr etc al dept est ave blvd rd bros assn intl govt univ
    jan feb mar apr jun jul aug sep sept oct nov dec u.s u.k u.n e.u d.c a.m p.m b.c a.d ph.d
    """)


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence, in order, without the white space around it and never empty.

    Every line end is a border; a sentence longer than `LONGEST_SENTENCE` is cut between words.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _STOP.finditer(text):
        if _is_border(text, start, match):
            _add(spans, text, start, match.end())
            start = match.end()
    _add(spans, text, start, len(text))
    return spans


def _is_border(text: str, start: int, stop: re.Match[str]) -> bool:
    """Whether the sentence that began at `start` ends with this match of `_STOP`."""
    mark, end = stop.group(), stop.end()
    if mark[0] not in ".!?…" or end == len(text):
        return True
    if not text[end].isspace():
        return False
    following = text[end : end + 40].lstrip(_BEFORE_A_WORD)
    next_word = _NO_WORD.split(following, maxsplit=1)[0]
    if next_word[:1].islower() and following[len(next_word) :][:1] != ")":  # but "(b) the rent" begins an item
        return False
    return mark != "." or not _abbreviates(text[max(start, stop.start() - 16) : stop.start()], next_word)


def _abbreviates(before: str, next_word: str) -> bool:
    """Whether the full stop between `before`, the end of the sentence so far, and `next_word` ends no sentence."""
    last = _NO_WORD.split(before)[-1]
    if last.casefold() in _BEFORE_NAMES or _NUMBERING.fullmatch(before):
        return True
    if last.casefold() in _BEFORE_NUMBERS:
        return next_word[:1].isdigit()
    initial = len(last) == 1 and last.isupper()
    return (initial or last.casefold() in _OFTEN_INSIDE) and next_word.casefold() not in STOP_WORDS


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    """Trim the span, cut it where it is too long, and keep what is not empty."""
    end = start + len(text[start:end].rstrip())
    while start < end:
        while text[start].isspace():
            start += 1
        cut = end if end - start <= LONGEST_SENTENCE else start + _cut(text[start : start + LONGEST_SENTENCE])
        spans.append((start, cut))
        start = cut


def _cut(window: str) -> int:
    """Where to cut a sentence that fills the window: after a clause, else between words, else at its end."""
    clause = max(window.rfind(sign) for sign in ("; ", "；", "，")) + 1
    return clause if clause > len(window) // 2 else len(window.rsplit(maxsplit=1)[0])
