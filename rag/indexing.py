"""The background work of a library: index what is queued, re-index, erase what was removed. Nobody waits for it."""

import logging
import secrets
import threading
import time

from rag.domain import Document, Progress, Version
from rag.errors import FootnoteError, Stopped
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
        self._stores = stores
        self._closing = threading.Event()
        self._work_waits = threading.Condition()
        self._housekeeping = threading.Lock()
        self._running_lock = threading.Lock()
        self._running: dict[str, tuple[Version, Document, Stop]] = {}
        self._reindexing: dict[str, Progress] = {}
        self._reindex_stop = Stop()
        self._problems: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=self._loop, name=f"index-{number}", daemon=True) for number in range(_WORKERS)
        ]

    def start(self) -> None:
        """Begin; what an earlier process left unfinished comes first."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; unfinished documents go back to the queue."""
        self._closing.set()
        self._reindex_stop.set()
        with self._running_lock:
            running = tuple(self._running.values())
        for _, _, stop in running:
            stop.set()
        self.wake()
        for thread in self._threads:
            thread.join(timeout=10)

    def wake(self) -> None:
        """Say that something was queued or removed."""
        self._stop_removed()
        with self._work_waits:
            self._work_waits.notify_all()

    def reindex(self, collection_id: str) -> None:
        """Move a collection to the configured embedding model in the background."""
        self._problems.pop(collection_id, None)
        self._stores.library.begin_reindexing(collection_id, self._pipeline.embedding_model)
        self.wake()

    def reindexing(self, collection_id: str) -> Progress | None:
        """How far the re-indexing of a collection is; None when it has not begun."""
        return self._reindexing.get(collection_id)

    def problem(self, collection_id: str) -> str | None:
        """Why the last try to re-index a collection failed."""
        return self._problems.get(collection_id)

    # ------------------------------------------------------------------ the threads

    def _loop(self) -> None:
        while not self._closing.is_set():
            try:
                worked = self._keep_house() or self._index_next()
            except Exception:
                logger.exception("Background work failed")
                worked = False
            if not worked:
                with self._work_waits:
                    if not self._closing.is_set():
                        self._work_waits.wait(_LOOKED_AT_EVERY)

    def _index_next(self) -> bool:
        """Index the oldest queued version; False when there is none."""
        with self._running_lock:
            version = self._stores.library.claim()
            if version is None:
                return False
            document = self._stores.library.document_of(version)
            stop = Stop()
            self._running[version.id] = (version, document, stop)
        if self._closing.is_set():
            stop.set()
        try:
            self._ingest(version, document, stop)
        finally:
            with self._running_lock:
                self._running.pop(version.id, None)
        return True

    def _ingest(self, version: Version, document: Document, stop: Stop) -> None:
        library = self._stores.library
        reported = 0.0
        stage = ""

        def report(progress: Progress) -> None:
            nonlocal reported, stage
            now = time.monotonic()
            if progress.stage != stage or progress.done == progress.total or now - reported > _REPORTED_EVERY:
                library.progress(version.id, progress)
                reported, stage = now, progress.stage

        try:
            self._pipeline.ingest(version, document, report, stop)
        except Stopped:
            library.requeue(version.id)
        except FootnoteError as error:
            logger.info("Version %s could not be indexed: %s", version.id, type(error).__name__)
            library.failed(version.id, str(error))
        except Exception:
            incident = secrets.token_hex(4)
            logger.exception("Indexing version %s failed, incident %s", version.id, incident)
            library.failed(version.id, f"Something unexpected went wrong. The server's log has it as {incident}.")

    def _keep_house(self) -> bool:
        """Erase what was removed and re-index what waits for it; one thread at a time. False when nothing was done."""
        if not self._housekeeping.acquire(blocking=False):
            return False
        try:
            return self._erase() or self._reindex_next()
        finally:
            self._housekeeping.release()
