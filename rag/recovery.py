"""What happens at every start, before anything is asked or indexed: whatever a kill or a power cut left is made good.

The catalogue is right by definition. Indexes that are torn or missing are built anew from the embedding table, into
the next generation, without a single embedding being asked for; the others are compared with it row by row.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy

from rag import preflight
from rag.chroma import ChromaIndex
from rag.domain import Collection
from rag.errors import FootnoteError
from rag.stores import Stores

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Gap:
    """What an index lacks: chunks, each with its version. `anew` where the index itself is lost."""

    collection: Collection
    missing: Mapping[str, str]
    anew: bool


def recover(stores: Stores, rebuilding: Callable[[int, int], None]) -> None:
    """Open the vector index and make everything in the data folder agree with the catalogue.

    Call it once, before uploads and indexing begin, in the process that holds the lock. `rebuilding(done, total)`
    counts vectors while indexes are written; it is not called when there is nothing to write. Raises FootnoteError.
    """
    for collection in stores.library.collections():
        if not stores.keywords.is_current(collection.id):
            logger.info("Start: the keyword index of collection %s is built anew", collection.id)
            stores.library.rebuild_keywords(collection.id)
    damaged = _remove_damaged(stores.index.folder)
    _open(stores.index)
    gaps = [_gap(stores, collection, damaged) for collection in _indexed(stores)]
    done, total = 0, sum(len(gap.missing) for gap in gaps)
    for gap in gaps:
        for written in _fill(stores, gap):
            done += written
            rebuilding(done, total)
    _drop_unexpected(stores)
    requeued = stores.library.requeue_interrupted()
    erased = stores.library.erase(stores.index)
    stores.library.erase_unreferenced()
    if requeued or erased:
        logger.info("Start: %d interrupted versions queued again, %d removed ones erased", requeued, erased)


def _indexed(stores: Stores) -> list[Collection]:
    return [collection for collection in stores.library.collections() if collection.dimension is not None]


def _remove_damaged(folder: Path) -> frozenset[str]:
    """Remove the files of unsound indexes before Chroma can open them; the names of these indexes."""
    segments = preflight.check(folder)
    if segments is None:
        logger.warning("Start: Chroma's database is damaged, all vector indexes are built anew")
        _remove(folder)
        return frozenset()
    damaged = [segment for segment in segments if segment.problem is not None]
    for segment in damaged:
        logger.warning("Start: vector index %s is built anew: %s", segment.index, segment.problem)
        if segment.folder.exists():
            _remove(segment.folder)
    return frozenset(segment.index for segment in damaged)


def _open(index: ChromaIndex) -> None:
    try:
        index.open()
    except FootnoteError:
        logger.warning("Start: Chroma cannot open its folder, all vector indexes are built anew", exc_info=True)
        _remove(index.folder)
        index.open()


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise FootnoteError(
            f"The damaged folder {folder} cannot be removed: {error.strerror}. Remove it and restart; it is built anew."
        ) from error


def _gap(stores: Stores, collection: Collection, damaged: frozenset[str]) -> _Gap:
    """What a collection's index lacks, after deleting from it what is not published."""
    published = stores.passages.published_ids(collection.id)
    if collection.index in damaged or collection.index not in stores.index.indexes():
        return _Gap(collection, published, anew=True)
    try:
        found = stores.index.ids(collection.index)
        stores.index.delete(collection.index, sorted(found - published.keys()))
    except FootnoteError:
        logger.warning("Start: vector index %s cannot be used and is built anew", collection.index, exc_info=True)
        return _Gap(collection, published, anew=True)
    missing = {chunk_id: version_id for chunk_id, version_id in published.items() if chunk_id not in found}
    return _Gap(collection, missing, anew=False)


def _fill(stores: Stores, gap: _Gap) -> Iterator[int]:
    """Write from the embedding table what an index lacks, yielding how many chunks each step has dealt with.

    A version of which even the table has lost a vector is queued to be indexed again.
    """
    collection = gap.collection
    generation = collection.generation + 1 if gap.anew else collection.generation
    index = collection.index_of(generation)
    if gap.anew:
        stores.index.drop(index)  # an earlier start may have been killed while it built this one
        stores.index.create(index, collection.embedding_model, collection.dimension or 0)
    lost: set[str] = set()
    ids = list(gap.missing)
    for first in range(0, len(ids), _ROWS_AT_ONCE):
        batch = ids[first : first + _ROWS_AT_ONCE]
        vectors = stores.vectors.of_chunks(collection.embedding_model, batch)
        lost.update(gap.missing[chunk_id] for chunk_id in batch if chunk_id not in vectors)
        if vectors:
            stores.index.upsert(index, list(vectors), numpy.stack(list(vectors.values())))
        yield len(batch)
    if gap.anew:
        stores.library.set_generation(collection.id, generation)
    for version_id in lost:
        logger.warning("Start: version %s has lost vectors and is queued again", version_id)
        stores.library.unpublish(version_id)
        stores.index.delete(index, [chunk.id for chunk in stores.passages.of_version(version_id)])


def _drop_unexpected(stores: Stores) -> None:
    """Drop indexes that no collection answers from: former generations and unfinished ones."""
    expected = {collection.index for collection in _indexed(stores)}
    for index in stores.index.indexes() - expected:
        stores.index.drop(index)
    preflight.remove_orphans(stores.index.folder)
