"""What one question or document takes: times, usage, notices for the reader, entries for the ledger."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rag.database import now
from rag.domain import CallStage, Collection, Price, Spending, Step, StepName, Usage
from rag.errors import FootnoteError
from rag.interfaces import Errand
from rag.stopping import Stop
from rag.usage import Entry, Ledger, priced

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Books:
    """Where spending is entered, the monthly budget in US dollars (None: no limit), and what models cost."""

    ledger: Ledger
    budget: Callable[[], float | None]
    price_of: Callable[[CallStage, str], Price | None]


@dataclass(slots=True)
class Account:
    """Filled step by step; the finished answer takes its final state along. `settle` enters it in the ledger.

    `about` is the id of what is paid for: a message, or a document's version. `session` groups its calls for the
    provider.
    """

    books: Books
    collection: Collection
    about: str = ""
    session: str = ""
    usage: Usage = field(default_factory=Usage)
    steps: list[Step] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    _since: float = field(default_factory=time.perf_counter)
    _entries: list[Entry] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, name: StepName, count: int) -> float:
        """Note that a step ended now, with how many items it handled; returns its seconds."""
        moment = time.perf_counter()
        seconds, self._since = moment - self._since, moment
        self.steps.append(Step(name, count, seconds))
        return seconds

    def check_budget(self) -> None:
        """Raise OverBudget when this month's budget is spent."""
        self.books.ledger.check(self.books.budget())

    def errand(self, stage: CallStage, stop: Stop) -> Errand:
        """Calls to models on this account, for this purpose."""
        return Errand(stop, self.session, lambda spending: self._enter(stage, spending))

    def settle(self) -> None:
        """Enter what was spent since the last time in the ledger."""
        with self._lock:
            entries, self._entries = self._entries, []
        if not entries:
            return
        try:
            self.books.ledger.record(entries)
        except FootnoteError as error:
            # What was paid for is worth more than its entry: the answer goes on, the entries wait for the next time.
            logger.error("%d calls could not be entered in the ledger: %s", len(entries), error)  # noqa: TRY400
            with self._lock:
                self._entries = [*entries, *self._entries]

    def _enter(self, stage: CallStage, spending: Spending) -> None:
        spending = priced(spending, self.books.price_of(stage, spending.model))
        entry = Entry(now(), stage, self.collection.id, self.collection.name, self.about, spending)
        with self._lock:  # batches of embeddings come from several threads
            self.usage += spending.usage
            self._entries.append(entry)
