"""Footnote's client for OpenRouter against servers that are not ours.

    python -m benchmarks.peers prism PRISM OPENAPI.yaml
    python -m benchmarks.peers llama PYTHON [LLAMA_SERVER]

PRISM is the command of npm's @stoplight/prism-cli: it checks each request against OpenRouter's specification, and
answers with examples that a careful client may refuse (one vector for two texts). PYTHON is an interpreter with
`llama-cpp-python[server]` and `gguf`, to serve a tiny random model; with LLAMA_SERVER, llama.cpp's own server does.
Prints what came of each check and whether that is what a person should get; fails where it is not.
"""

import argparse
import base64
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy
from pydantic import SecretStr

from benchmarks.measuring import HERE, table
from rag.domain import Chunk, Finished, Hit, Image, Spending, TermStatistics, TextDelta, Turn
from rag.errors import ProviderError, Stopped
from rag.interfaces import Errand, Form, Illustrated
from rag.openrouter import models
from rag.openrouter.chat import OpenRouterChat
from rag.openrouter.client import Call, Client
from rag.openrouter.embeddings import OpenRouterEmbedder
from rag.openrouter.failures import Purpose
from rag.openrouter.rerank import OpenRouterReranker
from rag.openrouter.routing import Routing

KEY, PURPOSE = "peer-key", Purpose("embedding", "tiny", "FOOTNOTE_EMBEDDING_MODEL")
ROUTING = Routing(
    order=("azure",),
    only=("azure", "deepinfra/turbo"),
    ignore=("together",),
    allow_fallbacks=False,
    require_parameters=True,
    data_collection="deny",
    zdr=True,
    sort="price",
    max_prompt_price=1,
    max_completion_price=2.5,
    max_request_price=0.01,
    max_image_price=0.02,
)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = Image("image/png", base64.b64decode(PNG))
TURNS = [Turn("system", "Answer from the sources."), Turn("user", "Which notice period?", stable="[1] Thirty days.")]
SEEING = [Turn("user", "What is it?", stable="[1] A picture.", images=(PICTURE,))]
SCHEMA = {"type": "object", "required": ["verdict"], "properties": {"verdict": {"type": "string", "enum": ["yes"]}}}
FORM = Form("verdict", SCHEMA | {"additionalProperties": False})
HITS = [Hit(chunk=Chunk(f"c{n}", "d", "v", n, f"Passage {n}.", 1, 1, (), ()), document="a.pdf") for n in range(30)]
STATISTICS = TermStatistics(0, {})

Check = tuple[str, Callable[[], object], str]
"""What is tried, how, and a pattern for the beginning of what should come of it."""


class Peer:
    """A server in a process of its own, for as long as the `with` block lasts."""

    def __init__(self, *command: str) -> None:
        self._command = command

    def __enter__(self) -> Self:
        self._log = tempfile.NamedTemporaryFile()
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 120
        while not (address := re.search(r"(?:listening|running) on (http://127\.0\.0\.1:\d+)", self.log)):
            if self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{self._command[0]} did not start:\n{self.log[-2000:]}")
            time.sleep(0.1)
        self.base = address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # some finish what they are at first, which may take minutes
        self._process.wait()
        self._log.close()

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return Path(self._log.name).read_text(errors="replace")


def outcome(action: Callable[[], object]) -> str:
    """What came of it, in words."""
    try:
        return str(action())
    except ProviderError as error:
        said = f" It said: “{error.failure.said}”" if error.failure.said else ""
        return f"{type(error).__name__}: {error}{said}"


def report(checks: Sequence[Check]) -> bool:
    """Print a table of all checks, each when it is done; True when all came out as they should."""
    columns = ["check", "result", "s", "as it should"]
    print(table([], columns), flush=True)
    good = True
    for name, action, expected in checks:
        begun, result = time.monotonic(), outcome(action)
        fits = bool(re.match(expected, result))
        cells = (name, result, time.monotonic() - begun, "yes" if fits else "NO")
        print(table([dict(zip(columns, cells, strict=True))], columns).splitlines()[-1], flush=True)
        good = good and fits
    return good


def talk(chat: OpenRouterChat, turns: Sequence[Turn] = TURNS) -> str:
    """How a reply came, and what was billed for it."""
    bills: list[Spending] = []
    *pieces, end = chat.stream(turns, Errand(session="peers", bill=bills.append))
    assert isinstance(end, Finished)
    text = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
    [usage] = [bill.usage for bill in bills]
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens{' (estimated)' if usage.estimated else ''}"
    return f"{'complete' if end.complete else 'cut off'}, {len(text)} characters in {len(pieces)} pieces, {tokens}"


def prism(command: str, specification: str) -> bool:
    with Peer(command, "mock", "-p", "0", specification) as peer:
        client, errand = Client(peer.base, SecretStr(KEY), backoff=0.01), Errand(session="peers")
        plain = OpenRouterEmbedder(client, "a/b")
        embed = OpenRouterEmbedder(client, "cohere/embed-v4.0", dimensions=3, routing=ROUTING, takes_images=True)
        rerank = OpenRouterReranker(client, "a/b", routing=ROUTING, takes_images=True).rerank
        options = {"fallbacks": ("c/d", "e/f", "g/h"), "temperature": 1.0, "longest": 500, "reasoning": "low"}
        chat = OpenRouterChat(client, "~a/b-latest")
        full = OpenRouterChat(client, "anthropic/a", routing=ROUTING, takes_images=True, **options)
        wrong = Call("/embeddings", {"model": "a/b", "input": ["x"], "dimensions": 0}, PURPOSE, 1.0)
        pictures = [Illustrated("a", PICTURE), Illustrated("", PICTURE)]

        def check(name: str, action: Callable[[], object], expected: str = r"[1-9]\d* sent, accepted") -> Check:
            def judged() -> str:
                before = len(peer.log)
                made = outcome(action)
                time.sleep(0.3)  # Prism writes its log a little after its reply
                said = peer.log[before:]
                refused = "; ".join(re.findall(r"(?:Violation: request|terminated with error: )(.+)", said))
                verdict = f"refused: {refused}" if refused else "accepted"
                return f"{said.count('Request received')} sent, {verdict} → {made}"

            return name, judged, expected

        checks = [
            check("embed a question", lambda: plain.embed(["x"], "query", errand).shape),
            check("embed passages", lambda: plain.embed(["x", "y"], "document", errand).shape),
            check("embed, all options", lambda: embed.embed(["x"], "query", errand).shape),
            check("embed pictures", lambda: embed.embed(pictures, "document", errand).shape),
            check("rerank", lambda: OpenRouterReranker(client, "a/b").rerank("x", HITS[:1], STATISTICS, errand)),
            check("rerank pictures, all options", lambda: rerank("x", HITS, STATISTICS, errand, {"c0": PICTURE})),
            check("chat", lambda: talk(chat)),
            check("chat about a picture, all options", lambda: talk(full, SEEING)),
            check("fill a form", lambda: chat.fill(TURNS, FORM, errand)),
            check("fill a form, all options", lambda: full.fill(SEEING, FORM, errand)),
            check("embedding models", lambda: len(models.offered(client, "embeddings", errand))),
            check("rerank models", lambda: len(models.offered(client, "rerank", errand))),
            check("chat models", lambda: len(models.offered(client, "chat", errand))),
            check("providers of a model", lambda: len(models.providers(client, "a/b", errand))),
            check("the key", lambda: models.key(client, errand).label),
            check("(a wrong request)", lambda: client.post(wrong, errand, dict), "1 sent, refused: .*dimensions"),
        ]
        return report(checks)


def llama(python: str, server: str = "") -> bool:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def served(model: str, *options: str) -> tuple[Peer, Client]:
            command = [python, "-m", "llama_cpp.server", "--model", f"{folder}/{model}", "--model_alias", "tiny"]
            command += ["--api_key", KEY, "--n_ctx", "1024", "--chat_format", "chatml"]
            if server:
                command = [server, "-m", f"{folder}/{model}", "-a", "tiny", "-c", "32768", "-np", "1", "--api-key", KEY]
            peer = stack.enter_context(Peer(*command, "--host", "127.0.0.1", "--port", "0", *options))
            return peer, Client(f"{peer.base}/v1", SecretStr(KEY), backoff=0.01)

        for model, ending in (("brief", ["3.5"]), ("endless", [])):
            subprocess.run([python, HERE / "peer_model.py", f"{folder}/{model}", *ending], check=True)
        (_, brief), (peer, endless) = served("brief"), served("endless")
        vectors = served("endless", *(["--embeddings"] if server else ["--embedding", "true"]))[1]
        errand, stranger = Errand(session="peers"), Client(f"{peer.base}/v1", SecretStr("wrong"))
        embed, short = OpenRouterEmbedder(vectors, "tiny"), OpenRouterEmbedder(vectors, "tiny", dimensions=32)
        routed, chat = OpenRouterEmbedder(vectors, "tiny", routing=ROUTING), OpenRouterChat(endless, "tiny")
        full = OpenRouterChat(endless, "tiny", fallbacks=("a/b",), routing=ROUTING, longest=16, reasoning="low")
        seeing = OpenRouterChat(brief, "tiny", takes_images=True)
        # llama-cpp-python answers long questions with an empty stream.
        too_long = "TooLong" if server else "ProviderDown"
        # It does not know `max_completion_tokens` or JSON schemas: the client cuts, and asks for the form in words.
        cut, form = (r"cut off.* 1[56] tokens", r"\{'verdict': 'yes'\}") if server else ("cut off", "BadReply: .* form")

        def passages() -> str:
            texts = [f"{number} months: {'notice ' * (number % 7)}" for number in range(200)]
            rows, some = embed.embed(texts, "document", errand), range(0, 200, 20)
            alone = numpy.concatenate([embed.embed([texts[index]], "query", errand) for index in some])
            return f"{rows.shape}, in {'' if numpy.allclose(rows[some], alone, atol=1e-3) else 'another '}order"

        def encoding() -> str:
            call = Call("/embeddings", {"model": "tiny", "input": ["x"], "encoding_format": "base64"}, PURPOSE, 1.0)
            return vectors.post(call, errand, lambda reply: type(reply["data"][0]["embedding"]).__name__)

        def stopped() -> str:
            errand, before, begun = Errand(), len(peer.log), 0.0
            try:
                for count, _ in enumerate(chat.stream(TURNS, errand)):
                    if count == 20:
                        begun = time.monotonic() + 0.05
                        threading.Timer(0.05, errand.stop.set).start()
            except Stopped:
                ours = time.monotonic() - begun
                while not re.search("disconnected|cancel task", peer.log[before:]):
                    if time.monotonic() > begun + 5:
                        return f"after {ours:.3f} s, but the server goes on"
                    time.sleep(0.01)
                return f"after {ours:.3f} s; the server stopped after {time.monotonic() - begun:.2f} s"
            return "it ended first"

        def ranked(client: Client) -> str:
            rerank = OpenRouterReranker(client, "tiny").rerank
            one, other = (rerank("x", hits, STATISTICS, errand) for hits in (HITS, HITS[::-1]))
            return f"{len(one)} scores, in {'' if numpy.allclose(one, other[::-1], atol=1e-3) else 'another '}order"

        checks: list[Check] = [
            ("embed 200 passages", passages, r"\(200, 64\), in order"),
            ("vectors asked for in base64 come as", encoding, "str|list"),
            ("embed with routing", lambda: routed.embed(["x"], "query", errand).shape, r"\(1, 64\)"),
            (
                "embed with 32 dimensions",
                lambda: short.embed(["x"], "query", errand).shape,
                r"\(1, 32\)|BadReply|Model",
            ),
            ("embed too long a text", lambda: embed.embed(["x " * 40_000], "document", errand).shape, r"\(1, 64\)"),
            ("chat", lambda: talk(OpenRouterChat(brief, "tiny")), "complete"),
            ("chat, all options, 16 tokens at most", lambda: talk(full), cut),
            ("stop", stopped, r"after 0\.[012].* stopped"),
            ("fill a form", lambda: OpenRouterChat(brief, "tiny").fill(TURNS, FORM, errand), form),
            ("chat with a wrong model", lambda: talk(OpenRouterChat(brief, "wrong")), "complete|ModelUnavailable"),
            ("chat with a wrong key", lambda: talk(OpenRouterChat(stranger, "tiny")), "BadKey"),
            ("chat about too long a text", lambda: talk(chat, [Turn("user", "x " * 40_000)]), too_long),
            ("chat about a picture", lambda: talk(seeing, SEEING), "InputRejected" if server else "complete"),
            ("rerank with a chat model", lambda: ranked(endless), "ModelUnavailable"),
        ]
        if server:
            ranking = served("endless", "--rerank")[1]
            checks.append(("rerank 30", lambda: ranked(ranking), "30 scores, in order"))
        return report(checks)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("peer", choices=["prism", "llama"])
    arguments.add_argument("paths", nargs="+", help="PRISM OPENAPI.yaml, or PYTHON [LLAMA_SERVER]")
    options = arguments.parse_args()
    sys.exit(not {"prism": prism, "llama": llama}[options.peer](*options.paths))
