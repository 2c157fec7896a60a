"""The parent's side of the limited child process: start it, ask it, and take its death for an answer."""

import json
import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rag.errors import UnreadableDocument
from rag.parsing.budget import MAX_SECONDS, TOO_HEAVY, TOO_SLOW
from rag.stopping import Stop

Message = dict[str, Any]

PATIENCE = MAX_SECONDS + 30
"""Wall seconds that a child may take for one request."""

_log = logging.getLogger(__name__)
_ROOT = Path(__file__).parents[2]
_LONGEST_MESSAGE = 64 * 1024**2  # bytes of one line from the child; the largest honest page is far smaller
_REQUESTS_PER_CHILD = 200  # then a fresh one: freed memory does not all go back to the system
_LAST = frozenset({"end", "picture", "unreadable"})


class Child:
    """One limited child process."""

    def __init__(self) -> None:
        if sys.platform == "win32":
            _log.warning("This platform has no memory limits: a hostile file may take more than its share.")
        # Popen, never multiprocessing, whose start-up runs the main script again.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rag.parsing.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
        )
        self._requests = 0
        self._answered = True
        self._ended = False

    def ask(self, request: Message, stop: Stop) -> Iterator[Message]:
        """The child's messages for one request, the last one included.

        Raises UnreadableDocument when the child dies, stalls or says so, Stopped when asked to stop. Whoever leaves
        before the last message leaves a child that must not be asked again (`alive` is False).
        """
        self._requests += 1
        self._answered = False
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            self.kill()

        # The processor-time limit ends an endless loop; the timer ends a child that waits for ever.
        timer = threading.Timer(PATIENCE, give_up)
        timer.daemon = True
        timer.start()
        try:
            with stop.breaking(self.kill):
                self._send(request)
                while True:
                    message = self._receive()
                    stop.check()
                    if message is None:
                        self.kill()
                        raise UnreadableDocument(TOO_SLOW if timed_out.is_set() or self._out_of_time() else TOO_HEAVY)
                    self._answered = message["kind"] in _LAST
                    if message["kind"] == "unreadable":
                        raise UnreadableDocument(str(message["problem"]))
                    yield message
                    if self._answered:
                        return
        finally:
            timer.cancel()

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return (
            self._answered  # or the pipe still holds messages about one file, to be taken for the next one's
            and not self._ended
            and self._process.poll() is None
            and self._requests < _REQUESTS_PER_CHILD
        )

    def kill(self) -> None:
        """End it at once; safe to call often and from any thread."""
        self._ended = True  # the system may take a moment to notice
        self._process.kill()

    def close(self) -> None:
        """End it and give its pipes back."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was left to write has nobody to go to

    def _send(self, request: Message) -> None:
        assert self._process.stdin  # noqa: S101  (opened as a pipe above)
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return  # it is dead: receiving says so

    def _receive(self) -> Message | None:
        assert self._process.stdout  # noqa: S101  (opened as a pipe above)
        try:
            line = self._process.stdout.readline(_LONGEST_MESSAGE)
            message = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, OSError):
            return None
        return message if isinstance(message, dict) and "kind" in message else None

    def _out_of_time(self) -> bool:
        try:
            import signal  # noqa: PLC0415

            return self._process.wait(timeout=5) == -signal.SIGXCPU
        except (AttributeError, subprocess.TimeoutExpired):
            return False


class Children:
    """At most `processes` children at a time, started when first needed and kept warm."""

    def __init__(self, processes: int) -> None:
        self._places = threading.BoundedSemaphore(processes)
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._busy: set[Child] = set()
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def child(self, stop: Stop) -> Iterator[Child]:
        """A child of one's own for one request. Raises Stopped while waiting for it."""
        while not self._places.acquire(timeout=0.05):
            stop.check()
        try:
            stop.check()
            child = self._take()
            try:
                yield child
            finally:
                self._give_back(child)
        finally:
            self._places.release()

    def close(self) -> None:
        """End all children, also those at work."""
        with self._lock:
            self._closed = True
            busy = tuple(self._busy)
        for child in busy:
            child.kill()
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _take(self) -> Child:
        child = None
        while child is None:
            try:
                idle = self._idle.get_nowait()
            except queue.Empty:
                child = Child()
                break
            if idle.alive:
                child = idle
            else:
                idle.close()
        with self._lock:
            self._busy.add(child)
            if self._closed:
                child.kill()
        return child

    def _give_back(self, child: Child) -> None:
        with self._lock:
            self._busy.discard(child)
            keep = child.alive and not self._closed
        if keep:
            self._idle.put(child)
        else:
            child.close()
