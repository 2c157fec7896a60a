"""The background work of a library: index what is queued, re-index, erase what was removed. Nobody waits for it."""

import logging
import threading
import time
from collections.abc import Callable

from rag.domain import Collection, Progress, Version
from rag.errors import FootnoteError, NotFound, OverBudget, ProviderError, Stopped, incident
from rag.pipeline import Pipeline
from rag.stopping import Stop
from rag.stores import Stores

logger = logging.getLogger(__name__)

_WORKERS = 2  # while one file is being read, another one's passages are embedded
_REPORTED_EVERY = 0.2
_LOOKED_AT_EVERY = 5.0


class Indexer:
    """Threads that work off the library's queue until they are closed. The queue is the table: nothing is kept here."""

    def __init__(self, pipeline: Pipeline, stores: Stores) -> None:
        self._pipeline = pipeline
        self._library = stores.library
        self._index = stores.index
        self._closing = Stop()
        self._work_waits = threading.Condition()
        self._housekeeping = threading.Lock()
        self._running_changed = threading.Condition()
        self._running: dict[str, tuple[Version, Stop]] = {}
        self._reindexing: dict[str, Progress] = {}
        self._problems: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=self._loop, name=f"index-{number}", daemon=True) for number in range(_WORKERS)
        ]

    def start(self) -> None:
        """Begin; what an earlier process left unfinished is in the queue already."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; unfinished documents go back to the queue."""
        self._closing.set()
        with self._running_changed:
            for _, stop in self._running.values():
                stop.set()
            self._running_changed.notify_all()
        self._notify()
        for thread in self._threads:
            thread.join(timeout=10)

    def wake(self) -> None:
        """Say that something was queued or removed; work on what was removed ends at once."""
        with self._running_changed:
            for version, stop in self._running.values():
                if not self._exists(version):
                    stop.set()
        self._notify()

    def reindex(self, collection_id: str) -> None:
        """Move a collection to the configured embedding model in the background. Raises NotFound."""
        self._problems.pop(collection_id, None)
        self._library.begin_reindexing(collection_id, self._pipeline.embedding_model)
        self._notify()

    def reindexing(self, collection_id: str) -> Progress | None:
        """How far the re-indexing of a collection is; None while it is not being worked on."""
        return self._reindexing.get(collection_id)

    def problem(self, collection_id: str) -> str | None:
        """Why the last try to re-index a collection failed."""
        return self._problems.get(collection_id)

    def _notify(self) -> None:
        with self._work_waits:
            self._work_waits.notify_all()

    def _exists(self, version: Version) -> bool:
        try:
            self._library.version(version.id)
        except NotFound:
            return False
        return True

    # ------------------------------------------------------------------ the threads

    def _loop(self) -> None:
        while not self._closing.is_set:
            # One kind of work that keeps failing must not keep the other from being done.
            worked = [self._tried(self._keep_house), self._tried(self._index_next)]
            if not any(worked):
                with self._work_waits:
                    if not self._closing.is_set:
                        self._work_waits.wait(_LOOKED_AT_EVERY)

    def _tried(self, work: Callable[[], bool]) -> bool:
        """Whether something was done; what fails unexpectedly is logged and tried again later."""
        try:
            return work()
        except Exception as error:
            incident(logger, error, "Background work")
            return False

    def _keep_house(self) -> bool:
        """Erase what was removed and re-index what waits for it; one thread at a time. False when nothing was done."""
        if not self._housekeeping.acquire(blocking=False):
            return False
        try:
            return self._requeue_dropped() or self._library.erase(self._index) > 0 or self._reindex_next()
        finally:
            self._housekeeping.release()

    def _requeue_dropped(self) -> bool:
        """Put back what no thread works on any more, as when its end could not be recorded on a full disk."""
        with self._running_changed:
            return self._library.requeue_interrupted(except_for=self._running.keys()) > 0

    def _index_next(self) -> bool:
        """Index the version that waited longest; False when there is none, or a collection waits to be re-indexed."""
        if not self._pipeline.may_spend():
            return False
        with self._running_changed:
            version = None if self._to_reindex() else self._library.claim()
            if version is None:
                return False
            stop = Stop()
            self._running[version.id] = (version, stop)
        if self._closing.is_set:
            stop.set()
        self._notify()  # another thread may have slept through an upload that came without a wake
        try:
            self._ingest(version, stop)
        finally:
            with self._running_changed:
                del self._running[version.id]
                self._running_changed.notify_all()
        return True

    def _ingest(self, version: Version, stop: Stop) -> None:
        reported_at, stage = 0.0, ""

        def report(progress: Progress) -> None:
            nonlocal reported_at, stage
            now = time.monotonic()
            if progress.stage != stage or now - reported_at > _REPORTED_EVERY:
                self._library.progress(version.id, progress)
                reported_at, stage = now, progress.stage

        try:
            self._pipeline.ingest(version, self._library.document_of(version), report, stop)
        except Stopped:
            self._library.requeue(version.id)
        except OverBudget:
            self._library.requeue(version.id)  # it waits until there is something to spend again
        except FootnoteError as error:
            logger.info("Version %s could not be indexed: %s", version.id, type(error).__name__)
            self._library.failed(version.id, str(error), error.failure if isinstance(error, ProviderError) else None)
        except Exception as error:
            self._library.failed(version.id, incident(logger, error, f"Indexing version {version.id}"))

    def _to_reindex(self) -> Collection | None:
        waiting = (one for one in self._library.collections() if one.reindexing_to is not None)
        return next((one for one in waiting if one.id not in self._problems), None)

    def _reindex_next(self) -> bool:
        """Re-index one collection while nothing else is indexed, so that no new passage can be missed."""
        collection = self._to_reindex()
        if collection is None:
            return False
        with self._running_changed:
            self._running_changed.wait_for(lambda: self._closing.is_set or not self._running)
        try:
            self._pipeline.reindex(
                collection.id, lambda progress: self._reindexing.update({collection.id: progress}), self._closing
            )
        except Stopped:
            return False
        except FootnoteError as error:
            self._problems[collection.id] = str(error)
        except Exception as error:
            self._problems[collection.id] = incident(logger, error, f"Re-indexing collection {collection.id}")
        finally:
            self._reindexing.pop(collection.id, None)
        return True
