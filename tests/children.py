"""The processes that a test's own process started."""

import time
from pathlib import Path


def children_of(pid: int) -> set[int]:
    """The processes that a process started and that have not ended."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
        if int(parent) == pid and state != "Z":
            found.add(int(status.parent.name))
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting a while for it (a zombie that nobody waits for has ended too)."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
