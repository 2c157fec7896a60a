import logging
import sys
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from rag.errors import Stopped
from rag.interfaces import Errand, Vectors
from rag.local import embeddings
from rag.local.embeddings import LONGEST_TEXT, StaticEmbedder

TABLE = {"north": [3, 0], "east": [0, 4], "nowhere": [0, 0]}


@pytest.fixture
def embedder() -> StaticEmbedder:
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(TABLE)}, unk_token="nowhere"))
    tokenizer.pre_tokenizer = Whitespace()
    return StaticEmbedder(numpy.array(list(TABLE.values()), numpy.float32), tokenizer)


def test_vector_is_the_mean_at_unit_length(embedder: StaticEmbedder) -> None:
    """A text's vector points where the mean of its pieces points."""
    vectors = embedder.embed(["north", "north east", "east east"], "document", Errand())
    assert vectors.dtype == numpy.float32
    assert vectors.tolist() == [[1, 0], pytest.approx([0.6, 0.8]), [0, 1]]


def test_text_without_pieces_is_zeros(embedder: StaticEmbedder) -> None:
    """An empty text, or one whose pieces cancel out, is zeros and never NaN, which would poison an index."""
    assert embedder.embed(["", "  ", "nowhere"], "document", Errand()).tolist() == [[0, 0]] * 3


def test_no_texts_make_no_rows(embedder: StaticEmbedder) -> None:
    """Nothing in, nothing out, in the right shape."""
    assert embedder.embed([], "query", Errand()).shape == (0, 2)
    assert embedder.word_vectors([]).shape == (0, 2)
    assert embedder.count_tokens([]) == []


def test_beginning_of_a_long_text_is_read(embedder: StaticEmbedder) -> None:
    """What stands after the longest text that is read changes nothing."""
    beginning = "north " * (LONGEST_TEXT // 6 + 1)
    assert embedder.embed([beginning + "east " * 5000], "document", Errand()).tolist() == [[1, 0]]


def test_received_gets_every_batch(embedder: StaticEmbedder) -> None:
    """Each row is handed over once, with its place among the texts."""
    texts = ["north", "east", "north east"] * 400
    got: dict[int, list[float]] = {}

    def received(indexes: object, rows: Vectors) -> None:
        assert not got.keys() & set(indexes)
        got.update(zip(indexes, rows.tolist(), strict=True))

    vectors = embedder.embed(texts, "document", Errand(), received)
    assert [got[index] for index in range(len(texts))] == vectors.tolist()


def test_stop_ends_the_work_between_batches(embedder: StaticEmbedder) -> None:
    """After a stop no further batch is made."""
    errand, batches = Errand(), []

    def received(indexes: object, rows: Vectors) -> None:
        batches.append(len(rows))
        errand.stop.set()

    with pytest.raises(Stopped):
        embedder.embed(["north"] * 5000, "document", errand, received)
    assert len(batches) == 1


def test_tokens_are_counted_per_text(embedder: StaticEmbedder) -> None:
    """Every text has its own count, however long it is."""
    assert embedder.count_tokens(["", "north east", "east " * 4000]) == [0, 2, 4000]


def test_threads_share_an_embedder(embedder: StaticEmbedder) -> None:
    """Threads that embed at the same time get what each would get alone."""
    texts = [["north " * (n + 1) + "east " * k for k in range(50)] for n in range(6)]
    expected = [embedder.embed(some, "document", Errand()).tolist() for some in texts]
    got: dict[int, list[list[float]]] = {}

    def run(index: int) -> None:
        got[index] = embedder.embed(texts[index], "document", Errand()).tolist()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[index] for index in range(6)] == expected


def test_missing_files_are_none_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the model's files there is no embedder, and the log says so once."""
    package = tmp_path / "wordllama"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must never be imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert embeddings.load() is None
    assert len(caplog.records) == 1


def test_missing_package_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a platform without the package there is no embedder."""

    class Nowhere:
        def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            return None

    monkeypatch.setattr(sys, "meta_path", [Nowhere()])
    assert embeddings.load() is None


def test_installed_model_knows_meaning() -> None:
    """The installed files give vectors in which related texts are nearer, without importing their package."""
    embedder = embeddings.load()
    if embedder is None:
        pytest.skip("wordllama has no wheel for this platform")
    question, near, far = embedder.embed(
        ["How much holiday do employees get?", "Staff have 25 days of paid vacation.", "The pump needs a new valve."],
        "query",
        Errand(),
    )
    assert question @ near > question @ far
    assert embedder.dimension == 256
    assert "wordllama" not in sys.modules
