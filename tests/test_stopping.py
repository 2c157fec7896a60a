"""A stop reaches whoever waits, and nobody else."""

import threading

import pytest

from rag.errors import Stopped
from rag.stopping import Stop


def test_a_stop_is_raised_where_it_is_checked() -> None:
    """Before it is set, checking does nothing."""
    stop = Stop()
    stop.check()
    stop.set()
    with pytest.raises(Stopped):
        stop.check()


def test_a_stop_wakes_whoever_waits() -> None:
    """Long before the time is over."""
    stop = Stop()
    threading.Timer(0.01, stop.set).start()
    assert stop.wait(30)


@pytest.mark.parametrize("set_before", [True, False])
def test_a_stop_breaks_what_is_being_done(set_before: bool) -> None:
    """Also when it was set before the work began."""
    stop, broken = Stop(), []
    if set_before:
        stop.set()
    with stop.breaking(lambda: broken.append("work")):
        stop.set()
    assert broken[0] == "work"


def test_finished_work_is_never_broken() -> None:
    """Nor is any other that uses the same connection or process afterwards."""
    stop, broken = Stop(), []
    with stop.breaking(lambda: broken.append("work")):
        pass
    stop.set()
    assert broken == []


def test_leaving_waits_for_a_stop_that_is_under_way() -> None:
    """What comes after the work can rely on the callback being over."""
    stop, order = Stop(), []
    entered, go_on = threading.Event(), threading.Event()

    def callback() -> None:
        entered.set()
        go_on.wait(10)
        order.append("broken")

    stopper = threading.Thread(target=stop.set)
    with stop.breaking(callback):
        stopper.start()
        entered.wait(10)
        go_on.set()
    order.append("left")
    stopper.join(10)
    assert order == ["broken", "left"]
