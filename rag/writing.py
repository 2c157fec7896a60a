"""The answer's text from the chosen passages: written by a chat model, or extracts when there is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rag import prompts
from rag.account import Account
from rag.citations import Citer
from rag.domain import Citation, Finished, Hit, TermStatistics, TextDelta, Turn
from rag.errors import BadReply, ProviderError, Stopped
from rag.interfaces import ChatModel, Extractor
from rag.stopping import Stop

CUT_OFF = "The answer was cut off before its end."


@dataclass(slots=True)
class Written:
    """What was written so far. `absent` is set when the model found that the sources do not hold the answer."""

    text: str = ""
    citations: list[Citation] = field(default_factory=list)
    model: str | None = None
    absent: bool = False
    incomplete: bool = False


def write(
    chat: ChatModel,
    question: str,
    history: Sequence[Turn],
    hits: Sequence[Hit],
    written: Written,
    account: Account,
    stop: Stop,
) -> Iterator[TextDelta]:
    """Stream a chat model's answer into `written`, its source numbers turned into citations.

    Before any text a failure or a stop is raised; after it, it ends the text, which is kept and marked incomplete.
    """
    citer = Citer(hits)
    written.citations = citer.citations
    written.model = chat.model
    opening = _Opening()
    announced = 0
    try:
        for event in chat.stream(prompts.answer(question, history, hits), stop):
            if isinstance(event, Finished):
                _end(event, written, account)
            elif shown := citer.feed(opening.released(event.text)):
                written.text += shown
                yield TextDelta(shown, tuple(citer.citations[announced:]))
                announced = len(citer.citations)
    except Stopped:
        if not written.text:
            raise
        written.incomplete = True
    except ProviderError as error:
        if not written.text:
            raise
        written.incomplete = True
        account.notices.append(f"{CUT_OFF} {error}")
    written.absent = prompts.is_absent(opening.held)
    rest = ("" if written.absent else citer.feed(opening.held)) + citer.finish()
    written.citations = citer.citations
    if not (written.absent or citer.text.strip()):
        raise BadReply(f"{written.model} ended its answer before it began. Try again.")
    if citer.unknown:
        account.notices.append(f"{citer.unknown} reference(s) to sources that do not exist were removed.")
    if rest:
        written.text += rest
        yield TextDelta(rest, tuple(citer.citations[announced:]))


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


def _end(event: Finished, written: Written, account: Account) -> None:
    written.model = event.model
    account.spend(event.usage)
    if not event.complete:
        written.incomplete = True
        account.notices.append(CUT_OFF)


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
