"""How hard a server may be asked: how many batches at once, and which models must be left alone for a while.

Batches of embeddings share a number of places that adapts like a TCP window (additive increase, multiplicative
decrease): a refusal halves it, every round of successes adds one. Questions need no place, but everybody keeps the
pauses that a server asks for.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rag.stopping import Stop

MOST_IN_FLIGHT = 8


class Limiter:
    """Shared by all threads that call one server."""

    def __init__(self, most: int = MOST_IN_FLIGHT) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._places = float(most)
        self._taken = 0
        self._halved_at = 0.0
        self._pauses: dict[str | None, float] = {}  # when each model's pause ends; None stands for every model

    @property
    def places(self) -> int:
        """How many batches may be under way at once now."""
        return int(self._places)

    def pause(self, model: str) -> float:
        """Seconds for which this model must still be left alone; 0 when it may be asked."""
        now = time.monotonic()
        return max(0.0, *(self._pauses.get(name, now) - now for name in (model, None)))

    def hold(self, model: str | None, seconds: float) -> None:
        """Leave a model alone for so long, every model when it is None; a longer pause stays as it is."""
        until = time.monotonic() + seconds
        with self._changed:
            self._pauses[model] = max(self._pauses.get(model, 0.0), until)

    @contextmanager
    def place(self, stop: Stop) -> Iterator[float]:
        """One of the places for batches, as soon as one is free; gives the moment when it was taken. Raises Stopped."""
        with stop.breaking(self._wake), self._changed:
            self._changed.wait_for(lambda: stop.is_set or self._taken < self.places)
            stop.check()
            self._taken += 1
        try:
            yield time.monotonic()
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify_all()

    def refused(self, taken_at: float) -> None:
        """A batch that took its place at that moment was refused because the server is busy.

        Batches that were under way when the number of places was halved say nothing new.
        """
        with self._changed:
            if taken_at >= self._halved_at:
                self._places = max(1.0, self._places / 2)
                self._halved_at = time.monotonic()

    def accepted(self) -> None:
        """A batch was answered."""
        with self._changed:
            self._places = min(float(self._most), self._places + 1 / self._places)
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
