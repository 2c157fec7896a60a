"""The answer's text from the chosen passages: written by a chat model, or extracts when there is none."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from rag import prompts
from rag.account import Account
from rag.citations import Citer, claims, source_numbers, with_source_numbers
from rag.domain import (
    Checking,
    Citation,
    Failure,
    Finished,
    Hit,
    ReasoningDelta,
    TermStatistics,
    TextDelta,
    Turn,
    Verdict,
)
from rag.errors import BadReply, ProviderError, Stopped
from rag.interfaces import ChatModel, Extractor
from rag.models import Models
from rag.prompts import Brief
from rag.stopping import Stop

CUT_OFF = "The answer was cut off before its end."

_MOST_REASONING = 200_000  # characters kept of what a model thinks aloud
_LONGEST_REASON = 300
_LONGEST_OVERLAP = 80
_SHORTEST_OVERLAP = 12
_CLOSING = ".,;:!?…)]”’"
# A text that ends like this ends with a whole word: a space, a reference, or a full stop that is in no number.
_ENDED = re.compile(r"(?:\s|\]|(?:[^\W\d]|[\])”\"’])[.!?…。])\Z|\A\Z")


@dataclass(slots=True)
class Written:
    """What was written so far. `absent` is set when the model found that the sources do not hold the answer, `failure`
    when the server broke it off."""

    text: str = ""
    citations: list[Citation] = field(default_factory=list)
    model: str | None = None
    absent: bool = False
    incomplete: bool = False
    reasoning: str = ""
    failure: Failure | None = None


def write(
    models: Models, brief: Brief, written: Written, account: Account, stop: Stop
) -> Iterator[TextDelta | ReasoningDelta | Checking]:
    """Stream a chat model's answer into `written`, its source numbers turned into citations, and have them checked.

    Before any text a failure or a stop is raised; after it, it ends the text, which is kept and marked incomplete.
    """
    assert models.chat is not None  # noqa: S101 - the pipeline extracts without one
    citer = Citer(brief.hits)
    yield from _streamed(models, prompts.answer(brief), citer, _Opening(), written, account, stop)
    account.step("writing", len(brief.hits))
    if not written.absent:
        yield from _checked(models, brief, written, account, stop)


def resume(
    models: Models, brief: Brief, written: Written, account: Account, stop: Stop
) -> Iterator[TextDelta | ReasoningDelta | Checking]:
    """Stream the rest of an answer that was cut off into `written`, from where it is certain to be whole.

    Where nothing more comes, the text stays as it was. Raises like `write` before anything new.
    """
    assert models.chat is not None  # noqa: S101 - the pipeline does not call this without one
    former = (written.text, written.citations)
    written.text, written.citations = whole(*former)
    beginning = written.text
    citer = Citer(brief.hits, beginning, written.citations)
    before = with_source_numbers(beginning, written.citations, brief.hits)
    yield from _streamed(models, prompts.resume(brief, before), citer, _Joint(before), written, account, stop)
    if written.text.strip() == beginning.strip():
        written.text, written.citations = former
    account.step("writing", len(brief.hits))
    yield from _checked(models, brief, written, account, stop)


def whole(text: str, citations: Sequence[Citation]) -> tuple[str, list[Citation]]:
    """What is kept of an answer that was cut off: all but a last word that may be half, and the citations in it."""
    if not _ENDED.search(text):
        text = text[: max(text.rfind(" "), text.rfind("\n")) + 1]
    return text, [one for one in citations if f"[{one.number}]" in text]


class _Opening:
    """The first words, held back for as long as they may turn into the agreed "not in the documents"."""

    def __init__(self) -> None:
        self.held = ""
        self._over = False

    def released(self, piece: str) -> str:
        """What may be shown now that `piece` has come."""
        self.held += piece
        self._over = self._over or not prompts.may_become_absent(self.held)
        if not self._over:
            return ""
        released, self.held = self.held, ""
        return released

    def is_absent(self) -> bool:
        """Whether the whole reply was "not in the documents"."""
        return prompts.is_absent(self.held)


class _Joint:
    """The first words of a continuation, held back until it is known how many of them repeat the text before."""

    def __init__(self, before: str) -> None:
        self._before = before
        self._held = ""
        self._over = False

    @property
    def held(self) -> str:
        """What was not released yet, without what it repeats."""
        return "" if prompts.is_absent(self._held) else self._joined(self._held)

    def released(self, piece: str) -> str:
        """What may be shown now that `piece` has come."""
        if self._over:
            return piece
        self._held += piece
        begins_again = self._before.strip().startswith(self._held.strip())
        if len(self._held) < _LONGEST_OVERLAP or begins_again:
            return ""
        self._over = True
        released, self._held = self._joined(self._held), ""
        return released

    def is_absent(self) -> bool:
        """There is text already."""
        return False

    def _joined(self, continuation: str) -> str:
        before, text = self._before.strip(), continuation.strip(" ")
        if len(text) >= _SHORTEST_OVERLAP and before.startswith(text.strip()):
            return ""
        repeated = before if before and text.startswith(before) else self._overlap(before, text)
        text = text[len(repeated) :].lstrip(" ") if repeated else text
        begins_a_word = text[:1] not in _CLOSING and not text[:1].isspace()
        return f" {text}" if begins_a_word and self._before and not self._before[-1].isspace() else text

    @staticmethod
    def _overlap(before: str, text: str) -> str:
        """How much of the text's beginning is the end of what was before."""
        for length in range(min(len(text), _LONGEST_OVERLAP), _SHORTEST_OVERLAP - 1, -1):
            if before.endswith(text[:length].rstrip()):
                return text[:length]
        return ""


def _streamed(
    models: Models,
    turns: Sequence[Turn],
    citer: Citer,
    gate: _Opening | _Joint,
    written: Written,
    account: Account,
    stop: Stop,
) -> Iterator[TextDelta | ReasoningDelta]:
    chat = models.chat
    assert chat is not None  # noqa: S101 - see the callers
    written.citations, written.model = citer.citations, chat.model
    announced = len(citer.citations)
    has_new = False
    try:
        for event in chat.stream(turns, account.errand("writing", stop)):
            match event:
                case Finished(model, complete):
                    written.model = model
                    _note_cut(complete, written, account)
                case ReasoningDelta(text):
                    kept = text[: _MOST_REASONING - len(written.reasoning)] if models.shows_reasoning else ""
                    written.reasoning += kept
                    yield ReasoningDelta(kept)
                case TextDelta(text) if shown := citer.feed(gate.released(text)):
                    has_new = True
                    written.text += shown
                    yield TextDelta(shown, tuple(citer.citations[announced:]))
                    announced = len(citer.citations)
    except Stopped:
        if not has_new:
            raise
        written.incomplete = True
    except ProviderError as error:
        if not has_new:
            raise
        written.incomplete = True
        written.failure = error.failure
        account.notices.append(f"{CUT_OFF} {error}")
    written.absent = gate.is_absent()
    rest = ("" if written.absent else citer.feed(gate.held)) + citer.finish()
    written.citations = citer.citations
    if not (written.absent or citer.text.strip()):
        raise _empty(written)
    if citer.unknown:
        account.notices.append(f"{citer.unknown} reference(s) to sources that do not exist were removed.")
    if rest:
        written.text += rest
        yield TextDelta(rest, tuple(citer.citations[announced:]))


def _empty(written: Written) -> BadReply:
    if not written.incomplete:
        return BadReply(f"{written.model} ended its answer before it began. Try again.")
    return BadReply(
        f"{written.model} reached its limit before it said anything: allow longer answers, or less thinking, in "
        "Settings → Answers."
    )


def _note_cut(complete: bool, written: Written, account: Account) -> None:
    if not complete:
        written.incomplete = True
        account.notices.append(CUT_OFF)


# ---------------------------------------------------------------- checking


def _checked(models: Models, brief: Brief, written: Written, account: Account, stop: Stop) -> Iterator[Checking]:
    """Have the model judge each citation of a complete answer, if wanted; failing costs only the verdicts."""
    if not models.checks_citations or models.chat is None or written.incomplete or not written.citations:
        return
    yield Checking()
    try:
        written.citations = _judged(models.chat, brief, written, account, stop)
    except Stopped:
        account.notices.append("The check of the citations was stopped.")
    except ProviderError as error:
        account.notices.append(f"The citations could not be checked by a model. {error}")
    account.step("checking", len(written.citations))


def _judged(chat: ChatModel, brief: Brief, written: Written, account: Account, stop: Stop) -> list[Citation]:
    sources = source_numbers(written.citations, brief.hits)
    said = claims(written.text)
    asked = [
        (one.number, sources[one.number], " ".join(said.get(one.number, ())))
        for one in written.citations
        if one.number in sources
    ]
    before = with_source_numbers(written.text, written.citations, brief.hits)
    filled = chat.fill(prompts.check(brief, before, asked), prompts.CHECK, account.errand("checking", stop))
    verdicts = _verdicts(filled)
    if not verdicts:
        raise BadReply(f"{chat.model} gave no judgement that can be read.")
    return [
        replace(one, verdict=verdicts[one.number][0], verdict_reason=verdicts[one.number][1])
        if one.number in verdicts
        else one
        for one in written.citations
    ]


def _verdicts(filled: Mapping[str, Any]) -> dict[int, tuple[Verdict, str]]:
    """What of a filled form can be used, by the citation's number."""
    entries = filled.get("citations")
    found: dict[int, tuple[Verdict, str]] = {}
    for entry in entries if isinstance(entries, list) else []:
        match entry:
            case {"number": bool()}:
                continue
            case {"number": int(number), "verdict": str(verdict)} if verdict in get_args(Verdict):
                reason = entry.get("reason")
                text = " ".join(reason.split())[:_LONGEST_REASON] if isinstance(reason, str) else ""
                found[number] = (verdict, text)  # type: ignore[assignment]  # one of the Literal's own, just checked
    return found


# ---------------------------------------------------------------- without a model


def extract(
    extractor: Extractor, question: str, hits: Sequence[Hit], statistics: TermStatistics, written: Written
) -> Iterator[TextDelta]:
    """Put the best sentences of the passages, each with its citation, into `written`."""
    written.model = extractor.model
    for number, (index, start, end) in enumerate(extractor.extract(question, hits, statistics), 1):
        hit = hits[index]
        citation = Citation(number, hit.document, hit.chunk, start, end, hit.relevance, support="quoted")
        written.citations.append(citation)
        sentence = " ".join(hit.chunk.text[start:end].split())
        shown = f"{sentence} [{number}]" if number == 1 else f"\n\n{sentence} [{number}]"
        written.text += shown
        yield TextDelta(shown, (citation,))
    written.absent = not written.text
