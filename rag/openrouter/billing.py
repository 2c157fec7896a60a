"""What one call to a server took, told exactly once when it ends, however it ends."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rag.domain import CallOutcome, Spending, Usage
from rag.errors import Stopped
from rag.interfaces import Errand
from rag.openrouter.deltas import finish_reason_in, reasoning_in, text_in
from rag.openrouter.usage import estimated_tokens, label, usage_in


class Bill:
    """The figures of one call with all its attempts; `errand.bill` hears of them when the `with` block is left.

    What servers report is added up over the attempts. Where they report nothing although the last attempt may have
    been processed, the prompt counts with `prompt_tokens` and the completion with the text that was seen; the figures
    are then marked as estimated. A reply that only says what failed costs nothing.
    """

    def __init__(self, errand: Errand, model: str, prompt_tokens: int) -> None:
        self._errand = errand
        self._model = model
        self._provider = ""
        self._prompt_tokens = prompt_tokens
        self._reported: Usage | None = None  # by the attempts before the last
        self._of_attempt: Usage | None = None
        self._begun: float | None = None
        self._attempts = 0
        self._in_doubt = False
        self._seen_tokens = 0.0
        self._outcome: CallOutcome | None = None
        self.finished = False
        """Whether the reply said that it is complete."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            outcome: CallOutcome = "done"
        else:
            outcome = "stopped" if issubclass(kind, Stopped | GeneratorExit) else "failed"
        seconds = time.perf_counter() - self._begun if self._begun else 0.0
        retries = max(0, self._attempts - 1)
        usage = self._usage()
        self._errand.bill(Spending(self._model, self._provider, usage, seconds, retries, self._outcome or outcome))

    def attempt(self) -> None:
        """Another attempt begins."""
        self._begun = self._begun or time.perf_counter()
        self._attempts += 1
        self._reported, self._of_attempt = self._total(), None
        self._in_doubt = False
        self._seen_tokens = 0.0

    def sent(self) -> None:
        """The request has left; from here on the server may have processed it."""
        self._in_doubt = True

    def refused(self) -> None:
        """The server did not process the request: what it answered is an error."""
        self._in_doubt = self._seen_tokens > 0

    def read(self, payload: Mapping[str, Any]) -> None:
        """Take what a reply, or an event of a streamed one, says about itself."""
        self._model = label(payload.get("model")) or self._model
        self._provider = label(payload.get("provider")) or self._provider
        self._seen_tokens += estimated_tokens(text_in(payload) + reasoning_in(payload))
        self.finished = self.finished or bool(finish_reason_in(payload))
        # Some servers report what was used so far with every event: within an attempt the last word counts.
        self._of_attempt = usage_in(payload) or self._of_attempt

    def settle(self, outcome: CallOutcome) -> None:
        """How the call ended is known already, whatever becomes of who waits for its events."""
        self._outcome = outcome

    def _total(self) -> Usage | None:
        """What was reported, over all attempts."""
        found = [usage for usage in (self._reported, self._of_attempt) if usage is not None]
        return sum(found[1:], found[0]) if found else None

    def _usage(self) -> Usage:
        if (reported := self._total()) is not None:
            return reported
        if not self._in_doubt:
            return Usage()
        return Usage(self._prompt_tokens, round(self._seen_tokens), estimated=True)
