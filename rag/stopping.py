"""A stop that reaches work in another thread at once, even while it waits for a silent server."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rag.errors import Stopped


class Stop:
    """A flag set once; `breaking` lets a blocked read be broken by whoever stops it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        # Callbacks run inside the lock: once `breaking` is left, none can come late and break somebody else's work.
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether somebody asked to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask the work to stop; safe to call often and from any thread."""
        with self._lock:
            self._event.set()
            for callback in tuple(self._callbacks):
                callback()

    def wait(self, seconds: float) -> bool:
        """Sleep at most `seconds`; True as soon as somebody asked to stop."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise `Stopped` when somebody asked to stop."""
        if self._event.is_set():
            raise Stopped("Stopped.")

    @contextmanager
    def breaking(self, callback: Callable[[], None]) -> Iterator[None]:
        """While inside, a stop also calls `callback` (at once when it was set before); afterwards it never does."""
        with self._lock:
            self._callbacks.append(callback)
            if self._event.is_set():
                callback()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)
