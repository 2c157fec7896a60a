"""Server-sent events, decoded without I/O (WHATWG HTML, section 9.2.6). Only `data` matters here."""

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class Decoder:
    """Turns bytes, cut anywhere, into the data of each event.

    Lines end with LF, CRLF or CR and nothing else: a U+2028 within JSON is text. Bytes are split before they are
    decoded, so a character cut in two is no special case. An event that the end of the stream cuts off is dropped.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._kept = 0
        self._after_return = False
        self._started = False

    @property
    def held(self) -> int:
        """How many bytes of an unfinished event are kept, a line end counting as one."""
        return len(self._rest) + self._kept

    def feed(self, data: bytes) -> list[str]:
        """The data of the events that these bytes complete, in order."""
        if self._after_return:  # the line ended at the CR already; its LF may come with these bytes
            data = data.removeprefix(b"\n")
            self._after_return = False
        if not data:
            return []
        self._after_return = data.endswith(b"\r")
        *lines, tail = _LINE_END.split(data)
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += tail
        events = []
        for line in lines:
            if not self._started:
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - a byte order mark may open the stream
                self._started = True
            if line:
                self._keep(line)
            elif self._data:
                events.append(b"\n".join(self._data).decode("utf-8", "replace"))
                self._data.clear()
                self._kept = 0
        return events

    def _keep(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._kept += len(value) + 1  # an endless event may be of empty lines
