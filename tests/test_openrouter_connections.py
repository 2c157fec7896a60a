"""rag.openrouter.connections: encrypted connections and handshakes that never end."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from rag.errors import Stopped
from rag.interfaces import Errand
from rag.openrouter.client import Call, Client
from rag.openrouter.connections import Flight
from rag.openrouter.failures import Misconfigured, Purpose
from rag.stopping import Stop
from tests.openrouter_server import KEY, OpenRouterServer, serving, stalls

DOCUMENT = Path(__file__).parent.parent / "docs" / "failures.md"
CALL = Call("/embeddings", {"model": "m", "input": ["text"]}, Purpose("embedding", "m", "SETTING"), patience=20.0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "footnote test")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        # Python 3.13 verifies strictly and asks for these two.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def host(certificate: Path) -> Iterator[OpenRouterServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as server:
        yield server


def test_an_encrypted_call_is_answered_and_stopped(
    host: OpenRouterServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent server is left at once over TLS too, and the connection closed."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    client = Client(host.url, SecretStr(KEY))
    assert client.post(CALL, Errand(), dict)["object"] == "list"
    host.always = stalls
    stop = Stop()

    def run() -> None:
        host.wait_for_requests(2)
        stop.set()

    thread = threading.Thread(target=run)
    thread.start()
    with pytest.raises(Stopped):
        client.post(CALL, Errand(stop), dict)
    thread.join()
    client.close()
    assert host.disconnected.wait(5)


def told(when: str, client: Client) -> str:
    """What docs/failures.md has the person see, with this client's host."""
    row = next(line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if f"| {when} |" in line)
    return row.split(" | ")[2].replace("openrouter.ai", client.host)


def test_a_certificate_that_cannot_be_verified_is_said(host: OpenRouterServer) -> None:
    """The key is not sent, and no patience makes it a better one."""
    client = Client(host.url, SecretStr(KEY))
    with pytest.raises(Misconfigured) as caught:
        client.post(CALL, Errand(), dict)
    client.close()
    assert str(caught.value) == told("the certificate is not trusted", client)
    assert not host.requests


def test_a_proxy_that_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent past it."""
    with serving() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.removesuffix("/api/v1"))
        client = Client("https://openrouter.ai/api/v1", SecretStr(KEY))
        with pytest.raises(Misconfigured) as caught:
            client.post(CALL, Errand(), dict)
        client.close()
    assert str(caught.value) == told("the proxy refuses", client)


class Line(httpcore.NetworkStream):
    """A connection that is there already."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def get_extra_info(self, info: str) -> Any:
        return self._end if info == "socket" else None


def test_a_connection_that_comes_after_the_stop_is_cut() -> None:
    """The stop may fall between two looks at it."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    stop = Stop()
    with ours, theirs, Flight(stop, lambda: None) as flight:
        stop.set()
        flight.uses(Line(ours))
        assert theirs.recv(1) == b""


def test_a_late_stop_spares_the_connections_next_user() -> None:
    """A stop that is being carried out while its request ends cuts nobody else."""

    class SlowStop(Stop):
        @contextmanager
        def breaking(self, callback: Callable[[], None]) -> Iterator[None]:
            self.callback = callback
            yield

    stop = SlowStop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with Flight(stop, lambda: None) as flight:
            flight.uses(Line(ours))
        stop.callback()
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"


def test_a_stop_does_not_wait_for_a_handshake() -> None:
    """A host that accepts a connection and never says a word is left at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", None, connect_timeout=30.0)
        stop = Stop()
        accepted: list[socket.socket] = []

        def run() -> None:
            accepted.append(listener.accept()[0])
            accepted[0].recv(1)  # the handshake has begun
            stop.set()

        thread = threading.Thread(target=run)
        thread.start()
        with pytest.raises(Stopped):
            client.post(CALL, Errand(stop), dict)
        thread.join()
        accepted[0].close()
        client.close()
