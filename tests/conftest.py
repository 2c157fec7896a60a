"""What several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk

from rag.parsing.reader import Reader
from tests.openrouter_server import OpenRouterServer, serving


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


@pytest.fixture
def host() -> Iterator[OpenRouterServer]:
    """A models' server of this test's own."""
    with serving() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: Playwright keeps an event loop running in this thread, and others need their own."""
    items.sort(key=lambda item: "browser" in item.path.parts)
