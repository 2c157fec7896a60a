"""Kill a process that fills, replaces and erases, again and again, and see whether anything is ever lost or doubled.

    python -m benchmarks.kills [trials] [seed]

Each trial starts a worker on the same data folder, which first recovers and checks every promise of the stores, then
works at random until it is killed with -9 at a random moment. Vectors are made up from the text's hash.
"""

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

import rag.stores
from rag import preflight, recovery
from rag.chroma import ChromaIndex
from rag.domain import Block, Chunk, Document, Page, Parsed, Span, Version
from rag.interfaces import Vectors
from rag.stores import Stores
from rag.vectors import text_hash

MODEL = "made-up"
DIMENSION = 48
NAMES = [f"document-{number}.pdf" for number in range(24)]
_ROWS_AT_ONCE = 100


def open_stores(folder: Path) -> Stores:
    """Everything in a data folder, with the vector index still closed."""
    # Chroma writes its files often here, because that is when a kill can tear them.
    return replace(rag.stores.open_stores(folder, 1_000_000), index=ChromaIndex(folder / "chroma", synced_every=50))


def vector_of(text: str) -> Vectors:
    """A unit vector that depends on the text alone."""
    seed = int.from_bytes(text_hash(text)[:8], "little")
    row = numpy.random.default_rng(seed).standard_normal(DIMENSION).astype(numpy.float32)
    return row / numpy.linalg.norm(row)


def content_of(name: str, edition: int) -> bytes:
    """The bytes of a made-up file."""
    return f"%PDF-1.7 {name} {edition}".encode()


def split(content: bytes, version: Version) -> tuple[Parsed, list[Chunk]]:
    """The made-up passages of a file: 20 to 60, each with a word of its own and one that all have."""
    digest = hashlib.sha256(content).hexdigest()[:10]
    count = 20 + int(digest, 16) % 41
    texts = [f"Passage word{digest}x{ordinal} of something" for ordinal in range(count)]
    whole = "\n\n".join(texts)
    blocks, chunks, start = [], [], 0
    for ordinal, text in enumerate(texts):
        end = start + len(text)
        blocks.append(Block("paragraph", text, 1, start, end, ()))
        span = Span(0, 1, "1", start, end)
        identity = f"{version.id}x{ordinal}"
        chunks.append(Chunk(identity, version.document_id, version.id, ordinal, text, 1, 1, (), (span,)))
        start = end + 2
    return Parsed((Page(1, "1", whole, None),), tuple(blocks), True, ()), chunks


def ingest(stores: Stores, version: Version) -> None:
    """Index one claimed version in the order the pipeline does."""
    library = stores.library
    collection = library.collection(library.document_of(version).collection_id)
    parsed, chunks = split(stores.originals.path(version.sha256).read_bytes(), version)
    hashes = [text_hash(chunk.text) for chunk in chunks]
    stores.passages.save(version.id, parsed, chunks, hashes)
    rows = numpy.stack([vector_of(chunk.text) for chunk in chunks])
    stores.vectors.put(MODEL, hashes, rows)
    stores.index.create(collection.index, MODEL, DIMENSION)
    for first in range(0, len(chunks), _ROWS_AT_ONCE):
        ids = [chunk.id for chunk in chunks[first : first + _ROWS_AT_ONCE]]
        stores.index.upsert(collection.index, ids, rows[first : first + _ROWS_AT_ONCE])
    library.set_dimension(collection.id, DIMENSION)
    library.publish(version.id)


def ingest_queued(stores: Stores) -> None:
    """Work the queue off."""
    while (version := stores.library.claim()) is not None:
        ingest(stores, version)


# ---------------------------------------------------------------- the promises


def broken_promises(stores: Stores, acknowledged: Mapping[str, str | None], kept: Mapping[str, str]) -> list[str]:
    """What is wrong after recovery, in words; nothing when all is well.

    `acknowledged` gives the SHA-256 of what was last acknowledged under each name, None for a removed document. A name
    that was being changed at the kill is missing from it.
    """
    found = []
    for collection in stores.library.collections():
        found += _disagreements(stores, collection.id)
        documents = {document.name: document for document in stores.library.documents(collection.id)}
        found += _losses(documents, acknowledged)
        for name, sha256 in kept.items():
            if name not in documents or documents[name].newest.sha256 != sha256:
                found.append(f"{name} was taken in and is lost")
        for document in documents.values():
            content = stores.originals.path(document.newest.sha256)
            if hashlib.sha256(content.read_bytes()).hexdigest() != document.newest.sha256:
                found.append(f"{document.name}: its file is damaged")
    if stores.library.activity().working:
        found.append("something is still marked as worked on")
    if preflight.remove_orphans(stores.index.folder):
        found.append("files of a dropped index are left")
    return found


def _losses(documents: Mapping[str, Document], acknowledged: Mapping[str, str | None]) -> list[str]:
    found = []
    for name, sha256 in acknowledged.items():
        document = documents.get(name)
        if sha256 is None and document is not None:
            found.append(f"{name} came back after its removal")
        if sha256 is not None and (document is None or document.current is None or document.current.sha256 != sha256):
            found.append(f"{name} was ready and is lost")
    return found


def _disagreements(stores: Stores, collection_id: str) -> list[str]:
    collection = stores.library.collection(collection_id)
    published = stores.passages.published(collection_id)
    ids = {chunk.id for chunk, _ in published}
    in_index = stores.index.ids(collection.index) if collection.dimension else frozenset()
    found = []
    if ids != in_index:
        found.append(f"{len(ids)} chunks are published, {len(in_index)} are in the vector index")
    if ids != stores.keywords.chunk_ids(collection_id):
        found.append(f"{len(ids)} chunks are published, others can be found by words")
    statistics = stores.keywords.statistics(collection_id, "something")
    if {statistics.chunks, statistics.frequencies["someth"]} != {len(ids)}:
        found.append(f"{len(ids)} chunks are published, the statistics say {statistics}")
    for chunk, _ in published[::17]:
        nearest = stores.index.search(collection.index, vector_of(chunk.text), 1)
        if not nearest or nearest[0][0] != chunk.id or nearest[0][1] < 0.999:
            found.append(f"chunk {chunk.id} does not find itself by its vector")
        by_word = stores.keywords.search(collection_id, chunk.text.split()[1], 1)
        if not by_word or by_word[0][0] != chunk.id:
            found.append(f"chunk {chunk.id} does not find itself by its word")
    return found


# ---------------------------------------------------------------- the worker, in a process of its own


def work(folder: Path, seed: int, told: Mapping[str, Any], for_ever: bool) -> None:
    """Recover, check, then work at random until killed, saying on standard output what is done."""
    stores = open_stores(folder)
    rebuilt: list[int] = []
    started = time.monotonic()
    recovery.recover(stores, lambda done, _total: rebuilt.append(done))
    seconds = time.monotonic() - started
    known = stores.library.collection_named("Team") or stores.library.create_collection("Team", MODEL)
    _say(
        {
            "broken": broken_promises(stores, told["acknowledged"], told["kept"]),
            "chunks": len(stores.passages.published_ids(known.id)),
            "written": rebuilt[-1] if rebuilt else 0,
            "generation": known.generation,
            "seconds": round(seconds, 2),
        }
    )
    ingest_queued(stores)
    stores.library.erase(stores.index)
    _say({"settled": {one.name: one.newest.sha256 for one in stores.library.documents(known.id)}})
    chance = random.Random(seed)
    edition = seed * 100_000
    while for_ever:
        edition += 1
        _change(stores, known.id, chance, edition)


def _change(stores: Stores, collection_id: str, chance: random.Random, edition: int) -> None:
    name = chance.choice(NAMES)
    here = {document.name: document for document in stores.library.documents(collection_id)}
    _say({"begin": name})
    if name in here and chance.random() < 0.3:
        stores.library.remove(here[name].id)
        stores.library.erase(stores.index)
        _say({"done": name, "sha256": None})
        return
    content = content_of(name, edition)
    stores.library.add(collection_id, name, io.BytesIO(content))
    _say({"kept": name, "sha256": hashlib.sha256(content).hexdigest()})
    ingest_queued(stores)
    stores.library.erase(stores.index)
    _say({"done": name, "sha256": hashlib.sha256(content).hexdigest()})


def _say(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- the one who kills


class Trials:
    """A data folder that workers fill until they are killed, and what they had acknowledged by then."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._seed = seed
        self._acknowledged: dict[str, str | None] = {}
        self._kept: dict[str, str] = {}

    def run(self, longest: float) -> dict[str, Any]:
        """Start a worker and kill it, at most that many seconds after it began to work, or now and then amid its start.

        Gives what it found at its start, or nothing but an empty list of broken promises where it did not come so far.
        """
        self._seed += 1
        worker = self._start(for_ever=True)
        amid_start = self._chance.random() < 0.25
        if amid_start:
            _kill_after(worker, self._chance.uniform(0.3, 1.2))
        report = _read_report(worker)
        if not amid_start:
            _kill_after(worker, self._chance.uniform(0, longest))
        return self._follow(worker, report, -signal.SIGKILL)

    def check(self) -> dict[str, Any]:
        """Start a worker that only recovers, checks and settles; what it found."""
        worker = self._start(for_ever=False)
        return self._follow(worker, _read_report(worker), 0)

    def _follow(self, worker: "subprocess.Popen[str]", report: dict[str, Any], end: int) -> dict[str, Any]:
        assert worker.stdout is not None
        with worker.stdout:
            for line in worker.stdout:
                self._take(line)
        if worker.wait() != end:
            report["broken"].append(f"the worker ended with {worker.returncode}")
        return report

    def _start(self, for_ever: bool) -> "subprocess.Popen[str]":
        arguments = [
            str(self._folder),
            str(self._seed),
            json.dumps({"acknowledged": self._acknowledged, "kept": self._kept}),
            str(int(for_ever)),
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.kills", "work", *arguments],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _take(self, line: str) -> None:
        if not line.endswith("\n"):
            return  # cut by the kill
        said = json.loads(line)
        if "settled" in said:
            self._acknowledged = dict.fromkeys(NAMES) | said["settled"]
            self._kept.clear()
        elif "begin" in said:
            self._acknowledged.pop(said["begin"], None)
        elif "kept" in said:
            self._kept[said["kept"]] = said["sha256"]
        else:
            self._kept.pop(said["done"], None)
            self._acknowledged[said["done"]] = said["sha256"]


def _kill_after(worker: "subprocess.Popen[str]", seconds: float) -> None:
    # By a timer, because what the worker says must be read until the very moment.
    timer = threading.Timer(seconds, worker.kill)
    timer.daemon = True
    timer.start()


def _read_report(worker: "subprocess.Popen[str]") -> dict[str, Any]:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    report: dict[str, Any] = json.loads(line) if line.endswith("\n") else {"broken": []}
    return report


def main(trials: int, seed: int) -> int:
    """Run the trials and print a table; the number of broken promises."""
    broken = rebuilt = 0
    generation = 0
    with tempfile.TemporaryDirectory() as folder:
        series = Trials(Path(folder), seed)
        print("trial | chunks | written at start | generation | recovery s | broken")
        for trial in range(trials + 1):
            report = series.run(2.0) if trial < trials else series.check()
            broken += len(report["broken"])
            rebuilt += report.get("generation", generation) > generation > 0
            generation = report.get("generation", generation)
            values = [report.get(key, "") for key in ("chunks", "written", "generation", "seconds")]
            print(" | ".join(map(str, [trial, *values, "; ".join(report["broken"]) or "-"])), flush=True)
    print(f"{trials} kills, {rebuilt} indexes rebuilt, {broken} broken promises")
    return broken


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5] == "1")
    else:
        numbers = [int(argument) for argument in sys.argv[1:]]
        sys.exit(main(*(numbers + [20, 1][len(numbers) :])) > 0)
