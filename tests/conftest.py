"""What several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk

from rag.parsing.reader import Reader


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    opened = Reader(2)
    yield opened
    opened.close()


@pytest.fixture
def desk(tmp_path: Path, reader: Reader) -> Iterator[Desk]:
    opened = Desk(tmp_path, reader)
    yield opened
    opened.close()
