"""rag.openrouter.sse: server-sent events however the network cuts them."""

import pytest

from rag.openrouter.sse import Decoder


def decoded(*pieces: bytes) -> list[str]:
    decoder = Decoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


STREAM = (
    ': OPENROUTER PROCESSING\n\ndata: {"a": "é\u2028ü"}\r\n\r\n'
    "data: one\r\ndata: two\n\nevent: x\rdata:three\r\rdata: [DONE]\n\n"
)
EVENTS = ['{"a": "é\u2028ü"}', "one\ntwo", "three", "[DONE]"]


@pytest.mark.parametrize("cut", range(len(STREAM.encode()) + 1))
def test_a_cut_anywhere_changes_nothing(cut: int) -> None:
    """Two pieces, cut at any byte, give the events of the whole."""
    data = STREAM.encode()
    assert decoded(data[:cut], data[cut:]) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_tiny_pieces_change_nothing(size: int) -> None:
    """Not even single bytes lose or double an event."""
    data = STREAM.encode()
    assert decoded(*(data[start : start + size] for start in range(0, len(data), size))) == EVENTS


def test_an_event_comes_with_its_last_byte() -> None:
    """The empty line completes the event; nothing waits for what follows."""
    decoder = Decoder()
    assert decoder.feed(b"data: now\r\n\r") == ["now"]


def test_comments_and_other_fields_are_no_events() -> None:
    """Comments, retry, id and unknown fields alone give nothing."""
    assert decoded(b": hello\n\nretry: 10\n\nid: 4\n\nwhatever\n\n") == []


def test_only_one_leading_space_is_taken_off() -> None:
    """Further spaces belong to the data."""
    assert decoded(b"data:  x\n\ndata:y\n\n") == [" x", "y"]


def test_unicode_line_separators_are_text() -> None:
    """U+2028, U+2029, U+0085 and form feeds end no line."""
    text = "a\u2028b\u2029c\u0085d\x0ce"
    assert decoded(f"data: {text}\n\n".encode()) == [text]


def test_a_byte_order_mark_may_open_the_stream() -> None:
    """It is not part of the first field's name."""
    assert decoded(b"\xef\xbb\xbfdata: x\n\n") == ["x"]


def test_an_event_cut_off_by_the_end_is_dropped() -> None:
    """Without its empty line an event may be incomplete."""
    assert decoded(b"data: whole\n\ndata: ha") == ["whole"]


def test_what_is_held_back_is_counted() -> None:
    """An endless event can be noticed by whoever feeds it."""
    decoder = Decoder()
    decoder.feed(b"data: 12345\n678")
    assert decoder.held == len(" 12345\n") + len("678")


def test_an_endless_event_of_empty_lines_is_noticed() -> None:
    """Each line takes memory, though it holds no text."""
    decoder = Decoder()
    decoder.feed(b"data:\n" * 1000)
    assert decoder.held >= 1000


def test_nothing_is_held_after_an_event() -> None:
    """The next one is counted from zero."""
    decoder = Decoder()
    decoder.feed(b"data: whole\n\n")
    assert decoder.held == 0
