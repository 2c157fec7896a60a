"""Security headers: what the policy allows, and that every HTTP reply carries it."""

import asyncio
import base64
import hashlib
from typing import Any

import pytest

from rag.headers import Message, Receive, SecurityHeaders, Send, security_headers

INDEX = "<head><script>\n  one()\n</script><script type='module' src='x.js'></script><script>two()</script></head>"


def policy(index: str = INDEX) -> dict[str, str]:
    directives = (part.partition(" ") for part in security_headers(index)["Content-Security-Policy"].split("; "))
    return {name: sources for name, _, sources in directives}


def sha256(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def test_only_the_start_pages_own_inline_scripts_may_run() -> None:
    """Each inline script is allowed by its hash, and nothing allows inline scripts or eval as such."""
    assert policy()["script-src"].split() == [
        "'self'",
        "blob:",
        "'wasm-unsafe-eval'",
        sha256("\n  one()\n"),
        sha256("two()"),
    ]


@pytest.mark.parametrize("directive", sorted(policy()))
def test_nothing_comes_from_elsewhere(directive: str) -> None:
    """No directive names another host or a whole scheme of the network."""
    assert not {"*", "http:", "https:", "ws:", "wss:"} & set(policy()[directive].split())
    assert "//" not in policy()[directive]


@pytest.mark.parametrize("directive", ["img-src", "connect-src", "font-src", "frame-src", "form-action", "base-uri"])
def test_what_could_carry_text_away_is_limited(directive: str) -> None:
    """Images, requests, frames, forms and the base address are limited by name or by the default."""
    assert policy()[directive].startswith("'self'")


class Replies:
    """An application that sends one reply with the given headers, or passes a websocket through."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self._headers = headers

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept", "headers": list(self._headers)})
            return
        await send({"type": "http.response.start", "status": 404, "headers": list(self._headers)})
        await send({"type": "http.response.body", "body": b"text"})


def sent(app: Any, kind: str) -> list[Message]:
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(SecurityHeaders(app, {"X-Frame-Options": "SAMEORIGIN"})({"type": kind}, receive, send))
    return messages


def test_every_reply_carries_the_headers() -> None:
    """Headers are added to what the application sends, errors too; the body passes as it is."""
    start, body = sent(Replies((b"content-type", b"text/plain")), "http")
    assert start["headers"] == [(b"content-type", b"text/plain"), (b"x-frame-options", b"SAMEORIGIN")]
    assert body == {"type": "http.response.body", "body": b"text"}


def test_a_header_of_the_same_name_is_replaced() -> None:
    """A weaker header of the application does not stand beside ours."""
    start, _ = sent(Replies((b"X-Frame-Options", b"ALLOWALL")), "http")
    assert start["headers"] == [(b"x-frame-options", b"SAMEORIGIN")]


def test_websockets_pass_untouched() -> None:
    """A websocket's messages are not changed."""
    assert sent(Replies((b"a", b"b")), "websocket") == [{"type": "websocket.accept", "headers": [(b"a", b"b")]}]
