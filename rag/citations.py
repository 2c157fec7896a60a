"""What [1] refers to, and what supports it. Pure.

A model cites sources by their number in the prompt. The reader sees numbers of our own: each (passage, sentence) pair
gets one, in order of first appearance, so that every citation opens the very sentence it stands on.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag.domain import Citation, Hit, Span, Support
from rag.prompts import without_citations
from rag.words import sentences, words

# White space goes with the reference after it: both disappear where the source does not exist.
_MAYBE = re.compile(r"\s*[\[【]|\s+$")
_MARKER = re.compile(r"(\s*)[\[【]\s*(\^?\d{1,3}(?:\s*[,;]\s*\^?\d{1,3})*)\s*[\]】]")
_MARKER_BEGUN = re.compile(r"\s*(?:[\[【][\s\d,;^]*)?$")
_LONGEST_MARKER = 40
_LONGEST_CLAIM = 2_000  # characters before a reference in which its sentence is looked for
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<![.!?:\n]\s)(?<!^)\b[A-Z][\w’'-]+")
_SUPPORTED, _WEAK = 0.6, 0.25
_QUOTED_WORDS = 4


@dataclass(frozen=True, slots=True)
class Evidence:
    """The sentence of a passage that supports a claim best: offsets in the passage, how well, and what it lacks."""

    start: int
    end: int
    support: Support
    missing: tuple[str, ...]


def locate(spans: Sequence[Span], start: int, end: int) -> tuple[Span, ...]:
    """Where `chunk.text[start:end]` stands on its pages, as spans cut to that range; `offset` counts in the chunk."""
    found = []
    for span in spans:
        first = max(start, span.offset)
        last = min(end, span.offset + span.end - span.start)
        if first < last:
            shift = span.start - span.offset
            found.append(replace(span, offset=first, start=first + shift, end=last + shift))
    return tuple(found)


def lit(citation: Citation) -> tuple[Span, ...]:
    """Where the cited sentence stands, on the page where it begins."""
    spans = locate(citation.chunk.spans, citation.start, citation.end)
    return tuple(span for span in spans if span.page == spans[0].page)


def _said(sentence: str) -> str:
    """A sentence of an answer as a claim: without its citations and list marks."""
    return without_citations(sentence).strip(" -*|#>\t")


def _numbers(text: str) -> set[str]:
    return {match.group().replace(",", "").rstrip(".") for match in _NUMBER.finditer(text)}


def evidence(claim: str, passage: str) -> Evidence:
    """The sentence of `passage` that holds most of the claim's words; its numbers count double."""
    stems = {word.stem for word in words(claim)}
    numbers = _numbers(claim)
    spans = sentences(passage) or [(0, len(passage))]

    def share(text: str) -> float:
        found = stems & {word.stem for word in words(text)}
        present = numbers & _numbers(text)
        return (len(found) + len(present)) / (len(stems) + len(numbers)) if stems or numbers else 0.0

    shares = [share(passage[start:end]) for start, end in spans]
    best = max(range(len(spans)), key=lambda index: shares[index])
    start, end = spans[best]
    around = passage[spans[max(best - 1, 0)][0] : spans[min(best + 1, len(spans) - 1)][1]]
    held = {word.surface.casefold() for word in words(around)}
    names = [match.group() for match in _NAME.finditer(claim)]
    missing = sorted(numbers - _numbers(around)) + [
        name for name in dict.fromkeys(names) if not {word.surface.casefold() for word in words(name)} <= held
    ]
    return Evidence(start, end, _support(claim, passage[start:end], shares[best], missing), tuple(missing))


def _plain(text: str) -> str:
    """The words alone, each between spaces, so that "10" is not found in "100"."""
    words_and_numbers = re.findall(r"\w+(?:[.,]\d+)*", text.casefold())
    return f" {' '.join(words_and_numbers)} "


def _support(claim: str, sentence: str, share: float, missing: Sequence[str]) -> Support:
    said = _plain(claim)
    if not missing and len(said.split()) >= _QUOTED_WORDS and said in _plain(sentence):
        return "quoted"
    if share >= _SUPPORTED and not missing:
        return "supported"
    return "weak" if share >= _WEAK else "none"


class Citer:
    """Turns a model's text with source numbers into the reader's text with citations, while it streams.

    `feed` returns the text that is safe to show now; `citations` are those numbered so far; `unknown` counts
    references to sources that do not exist, which are removed. It can go on after `text` with its `citations`.
    """

    def __init__(self, sources: Sequence[Hit], text: str = "", citations: Sequence[Citation] = ()) -> None:
        self._sources = sources
        self._held = ""
        self._space = ""  # what stood before references that were removed, for the one that may follow
        self.text = text
        self.citations = list(citations)
        self.unknown = 0

    def feed(self, piece: str) -> str:
        """The next piece of the reader's text; a reference that may still be incomplete is held back."""
        self._held += piece
        shown = ""
        while (maybe := _MAYBE.search(self._held)) is not None:
            if maybe.start() > 0:
                shown += self._show(self._take(maybe.start()))
                self._space = ""
            if marker := _MARKER.match(self._held):
                self._take(marker.end())
                numbers = self._numbered(marker[2])
                self._space = marker[1] or self._space
                if numbers:
                    shown += self._show(self._space + numbers)
                    self._space = ""
            elif len(self._held) < _LONGEST_MARKER and _MARKER_BEGUN.match(self._held):
                return shown
            else:
                shown += self._show(self._take(maybe.end() - maybe.start()))
        return shown + self._show(self._take(len(self._held)))

    def finish(self) -> str:
        """The rest of the text; the evidence of each citation is looked up again with the whole sentences."""
        shown = self._show(self._take(len(self._held)))
        said = claims(self.text)
        self.citations = [self._checked(citation, said.get(citation.number, ())) for citation in self.citations]
        return shown

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken

    def _show(self, text: str) -> str:
        self.text += text
        return text

    def _numbered(self, marker: str) -> str:
        claim = self._claim_before(len(self.text))
        return "".join(dict.fromkeys(self._number(int(found), claim) for found in re.findall(r"\d+", marker)))

    def _number(self, source: int, claim: str) -> str:
        if not 1 <= source <= len(self._sources):
            self.unknown += 1
            return ""
        hit = self._sources[source - 1]
        found = evidence(claim, hit.chunk.text)
        for citation in self.citations:
            if (citation.chunk.id, citation.start) == (hit.chunk.id, found.start):
                return f"[{citation.number}]"
        number = len(self.citations) + 1
        self.citations.append(
            Citation(
                number=number,
                document=hit.document,
                chunk=hit.chunk,
                start=found.start,
                end=found.end,
                relevance=hit.relevance,
                support="picture" if hit.chunk.figure else found.support,
                missing=() if hit.chunk.figure else found.missing,
            )
        )
        return f"[{number}]"

    def _claim_before(self, position: int) -> str:
        """The sentence that ends at, or contains, this place of the text."""
        before = self.text[max(0, position - _LONGEST_CLAIM) : position]
        spans = sentences(before)
        while spans:
            start, end = spans.pop()
            claim = _said(before[start:end])
            if words(claim):
                return claim
        return ""

    def _checked(self, citation: Citation, said: Sequence[str]) -> Citation:
        """The strongest support any claim with this number has from the cited sentence's passage."""
        order: tuple[Support, ...] = ("none", "weak", "supported", "quoted")
        best: Evidence | None = None
        if citation.support == "picture":
            return citation
        for claim in said:
            found = evidence(claim, citation.chunk.text)
            same_sentence = found.start == citation.start
            if same_sentence and (best is None or order.index(found.support) > order.index(best.support)):
                best = found
        return replace(citation, support=best.support, missing=best.missing) if best else citation


def claims(text: str) -> dict[int, list[str]]:
    """The sentences of an answer by the numbers that they cite, without their citations."""
    found: dict[int, list[str]] = {}
    previous = ""
    for start, end in sentences(text):
        sentence = text[start:end]
        said = _said(sentence)
        # "… days. [1]" puts the citation behind the sentence it belongs to.
        claim = said if words(said) else previous
        for number in dict.fromkeys(re.findall(r"\[(\d{1,6})\]", sentence)):
            if claim:
                found.setdefault(int(number), []).append(claim)
        previous = claim
    return found


def with_source_numbers(text: str, citations: Sequence[Citation], sources: Sequence[Hit]) -> str:
    """An answer as the model wrote it: each [n] again the number of its source."""
    numbers = source_numbers(citations, sources)
    return re.sub(r"\[(\d{1,6})\]", lambda match: f"[{numbers.get(int(match[1]), match[1])}]", text)


def source_numbers(citations: Sequence[Citation], sources: Sequence[Hit]) -> dict[int, int]:
    """The number of each citation's source in the prompt, by the citation's own number."""
    positions = {hit.chunk.id: position for position, hit in enumerate(sources, 1)}
    return {one.number: positions[one.chunk.id] for one in citations if one.chunk.id in positions}
