"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable
from typing import Any


def until(true: Callable[[], Any], seconds: float) -> Any:
    """What `true` returns once that is true; fails when it takes longer."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value
