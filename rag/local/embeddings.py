"""Vectors from a table of static word-piece vectors: no neural network, thousands of passages per second and core.

The table and its tokenizer are two files inside the installed `wordllama` package. The package is located and never
imported: importing it reconfigures the root logger, and its own loader asks the network for a file it has.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy
import safetensors.numpy
from tokenizers import Encoding, Tokenizer

from rag.interfaces import Errand, Input, Vectors

MODEL = "local:wordllama-256"
LONGEST_TEXT = 4000  # characters that are read of a text; the tokenizer's time grows faster than the text
_NO_LENGTH = numpy.float32(1e-9)  # keeps zeros zero instead of dividing them by zero
_BATCH = 512  # texts between two looks at `stop`

logger = logging.getLogger(__name__)


class StaticEmbedder:
    """An Embedder whose vector of a text is the mean of its word pieces' vectors.

    `table` has shape (pieces, dimension); float32 takes twice the memory of the stored float16 and a quarter of the
    time to sum. Nothing changes after construction, so any number of threads may use it.
    """

    def __init__(self, table: Vectors, tokenizer: Tokenizer, model: str = MODEL) -> None:
        self._table = table
        self._tokenizer = tokenizer
        self._model = model
        tokenizer.no_padding()
        tokenizer.no_truncation()

    @property
    def model(self) -> str:
        """The identity recorded with every vector."""
        return self._model

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self._table.shape[1])

    @property
    def takes_images(self) -> bool:
        """It knows words only."""
        return False

    def embed(
        self,
        inputs: Sequence[Input],
        purpose: Literal["query", "document"],
        errand: Errand,
        received: Callable[[Sequence[int], Vectors], None] | None = None,
    ) -> Vectors:
        """One unit-length vector per text, in order; zeros for a text without pieces. Both purposes are one here, and
        of a picture only its text counts.

        `received(indexes, rows)` is called with each batch. Raises Stopped.
        """
        texts = [one if isinstance(one, str) else one.text for one in inputs]
        vectors = numpy.zeros((len(texts), self.dimension), numpy.float32)
        for start in range(0, len(texts), _BATCH):
            errand.stop.check()
            indexes = range(start, min(start + _BATCH, len(texts)))
            rows = unit(self.sums(texts[start : start + _BATCH]))
            vectors[indexes.start : indexes.stop] = rows
            if received is not None:
                received(indexes, rows)
        return vectors

    def word_vectors(self, words: Sequence[str]) -> Vectors:
        """One unit-length vector per word, shape (words, dimension); zeros for a word without pieces."""
        return unit(self.sums(words))

    def sums(self, texts: Sequence[str]) -> Vectors:
        """The sum of each text's piece vectors, shape (texts, dimension): sums of a text's parts add up to its own."""
        sums = numpy.zeros((len(texts), self.dimension), numpy.float32)
        encodings = self._encode([text[:LONGEST_TEXT] for text in texts])
        for row, encoding in zip(sums, encodings, strict=True):
            if encoding.ids:
                numpy.add.reduce(self._table.take(encoding.ids, axis=0), axis=0, out=row)
        return sums

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of word pieces of each text."""
        # A text without end is counted in slices, since the tokenizer's time grows faster than the text.
        slices = [
            (index, text[start : start + LONGEST_TEXT])
            for index, text in enumerate(texts)
            for start in range(0, len(text), LONGEST_TEXT)
        ]
        counts = [0] * len(texts)
        for (index, _), encoding in zip(slices, self._encode([piece for _, piece in slices]), strict=True):
            counts[index] += len(encoding.ids)
        return counts

    def _encode(self, texts: list[str]) -> list[Encoding]:
        return self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)


def unit(sums: Vectors) -> Vectors:
    """The rows at unit length, which makes a mean of a sum as well; zeros stay zeros."""
    lengths = numpy.sqrt(numpy.square(sums).sum(axis=-1, keepdims=True))
    rows: Vectors = sums / numpy.maximum(lengths, _NO_LENGTH)
    return rows


def load() -> StaticEmbedder | None:
    """The embedder on the installed model files; None, with one warning in the log, where they are missing."""
    package = importlib.util.find_spec("wordllama")
    root = Path(package.origin).parent if package and package.origin else Path("wordllama")
    weights = root / "weights" / "l2_supercat_256.safetensors"
    tokenizer = root / "tokenizers" / "l2_supercat_tokenizer_config.json"
    if not (weights.is_file() and tokenizer.is_file()):
        logger.warning("The files of the local embedding model are not installed; only words are searched.")
        return None
    table = safetensors.numpy.load_file(weights)["embedding.weight"].astype(numpy.float32)
    return StaticEmbedder(table, Tokenizer.from_file(str(tokenizer)))
