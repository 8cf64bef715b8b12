"""The way to the coordinator, against small servers on this machine with certificates of several kinds."""

import base64
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client_app.preflight.coordinator import probe_coordinator
from client_app.preflight.proxy import connect, proxy_for
from tests.proxy import proxying

ErrorOf = Callable[[Callable[[], object]], str]
DAY = datetime.timedelta(days=1)
reach = partial(probe_coordinator, timeout=300)  # a machine may be busy; nobody who answers is waited for so long


@dataclass
class Authority:
    """A CA and where its certificate is."""

    name: str
    folder: Path

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.path = self.folder / f"{self.name}.crt"
        certificate = self._build(self.subject, self.key, 100, 100)
        signed = certificate.add_extension(x509.BasicConstraints(True, None), True).sign(self.key, hashes.SHA256())
        self.path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, age: int, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self.subject, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(now - age * DAY).not_valid_after(now + days * DAY)

    def server(
        self, name: str = "server", host: str = "localhost", age: int = 1, days: float = 90
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        hosts = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._build(subject, key, age, days).add_extension(hosts, False)
        signed = certificate.sign(self.key, hashes.SHA256())
        paths = self.folder / "server.crt", self.folder / "server.key"
        paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return paths


@contextmanager
def serving(files: tuple[Path, Path] | None, alpn: str = "h2") -> Iterator[int]:
    """Answer connections on a port of this machine with TLS; without files, with plain text."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if files:
        context.load_cert_chain(*files)
        context.set_alpn_protocols([alpn])
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            try:
                if files:
                    connection = context.wrap_socket(connection, server_side=True)
                    connection.recv(1)
                else:
                    connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            except OSError:
                pass
            finally:
                connection.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@contextmanager
def nobody() -> Iterator[int]:
    """Yield a port where connections are refused, and which nobody else can take meanwhile."""
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return Authority("ca", tmp_path)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_coordinator_of_this_ca_is_reached(host: str, authority: Authority) -> None:
    with serving(authority.server()) as port:
        answer = reach(f"{host}:{port}", authority.path)
    assert answer.address == f"{host}:{port}" and answer.protocol.startswith("TLSv1.")
    assert answer.days_left in (89, 90) and answer.milliseconds > 0 and answer.doubts == ()


def test_a_grpc_server_is_one_without_doubts(authority: Authority) -> None:
    certificate, key = authority.server()
    server = grpc.server(ThreadPoolExecutor(1))
    pair = (key.read_bytes(), certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        assert reach(f"127.0.0.1:{port}", authority.path).doubts == ()
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("login", ["", "anna:s3cr@t"])
def test_the_way_through_a_proxy(login: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(authority.server()) as port, proxying(login) as (proxy, asked):
        user = "anna:s3cr%40t@" if login else ""
        monkeypatch.setenv("grpc_proxy", f"http://{user}127.0.0.1:{proxy}")
        answer = reach(f"localhost:{port}", authority.path)
        assert (answer.through, answer.doubts) == ("proxy", ())
        assert [line.rpartition("/")[0] for line in asked] == [f"CONNECT localhost:{port} HTTP"]
        monkeypatch.setenv("no_proxy", "localhost")
        assert reach(f"localhost:{port}", authority.path).through == "direct" and len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("200", ""),  # without a reason
        ("201 Created", "answers '201 Created' to CONNECT localhost:"),
        ("403 Forbidden", "answers '403 Forbidden' to CONNECT localhost:"),
        ("502 Bad \x1b[2JGateway", "answers '502 Bad  [2JGateway' to CONNECT localhost:"),
        ("2000 Odd", "does not answer as one (HTTP/1.1 2000 Odd"),
    ],
)
def test_an_answer_of_200_opens_the_way(
    answer: str, words: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    with serving(authority.server()) as port, proxying(yes=answer) as (proxy, _):
        monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{proxy}")
        if words:
            assert words in error_of(lambda: reach(f"localhost:{port}", authority.path))
        else:
            assert reach(f"localhost:{port}", authority.path).through == "proxy"


@contextmanager
def answering(words: bytes | None) -> Iterator[int]:
    """Say this to each connection and hang up; None: say nothing, and stay."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while words is not None:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed
                    return
                with connection, suppress(OSError):
                    connection.recv(4096)
                    connection.sendall(words)

        threading.Thread(target=answer, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
        (b"", "Remote end closed connection without response"),
        (b"HTTP/1.1 " + b"x" * 100_000, "got more than 65536 bytes when reading status line"),
        (None, "timed out"),
    ],
)
def test_what_is_no_proxy(
    words: bytes | None, said: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    with answering(words) as proxy:
        monkeypatch.setenv("grpc_proxy", f"http://anna:s3cret@127.0.0.1:{proxy}")
        found = error_of(lambda: reach("localhost:1", authority.path, timeout=0.5 if words is None else 300))
    assert found.startswith(f"the proxy 127.0.0.1:{proxy} does not answer as one (") and said in found
    assert (
        "s3cret" not in found
        and base64.b64encode(b"anna:s3cret").decode() not in found
        and len(found.splitlines()) == 1
    )


@pytest.mark.parametrize(("host", "name"), [("::1", "[::1]"), ("bücher.example", "xn--bcher-kva.example")])
def test_how_a_host_is_named_to_the_proxy(host: str, name: str, authority: Authority, error_of: ErrorOf) -> None:
    with proxying("anna:s3cret") as (proxy, asked):
        found = error_of(lambda: connect(host, 9092, 300, f"http://127.0.0.1:{proxy}"))
    assert f"answers '407 Proxy Authentication Required' to CONNECT {name}:9092: it must allow that" in found
    assert [line.split(" HTTP")[0] for line in asked] == [f"CONNECT {name}:9092"]


def test_a_proxy_that_refuses_or_is_not_there(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    with serving(authority.server()) as port:
        with proxying("anna:right") as (proxy, _):
            monkeypatch.setenv("grpc_proxy", f"http://anna:wrong@127.0.0.1:{proxy}")
            said = error_of(lambda: reach(f"localhost:{port}", authority.path))
        assert f"the proxy 127.0.0.1:{proxy} answers '407 Proxy Auth" in said and "wrong" not in said
        with nobody() as proxy:
            monkeypatch.setenv("grpc_proxy", f"http://anna:wrong@127.0.0.1:{proxy}")
            said = error_of(lambda: reach(f"localhost:{port}", authority.path))
        assert f"the proxy 127.0.0.1:{proxy} cannot be reached" in said and "wrong" not in said
        form = ("http://proxy:port", "http://proxy", "https://proxy:3128", "proxy:3128", "http://:3128")
        for odd in (
            *form,
            "http://a..b:3128",
            "http://a b:3128",
            f"http://{'a' * 64}.org:3128",
            "http://anna\udcff:s3cret@proxy:3128",
        ):
            monkeypatch.setenv("grpc_proxy", odd)
            assert "not of the form" in error_of(lambda: reach(f"localhost:{port}", authority.path))


@pytest.mark.parametrize(
    ("environment", "host", "way"),
    [
        ({"grpc_proxy": "", "https_proxy": "http://a:1"}, "fed.org", ""),  # the first that is set decides
        ({"https_proxy": "http://a:1", "http_proxy": "http://b:1"}, "fed.org", "http://a:1"),
        ({"http_proxy": "http://b:1", "no_proxy": "Fed.org, other"}, "north.fed.ORG", ""),
        ({"http_proxy": "http://b:1", "no_grpc_proxy": "", "no_proxy": "fed.org"}, "fed.org", "http://b:1"),
        ({"http_proxy": "http://b:1", "no_proxy": "10.0.0.0/8"}, "10.1.2.3", ""),
        ({"http_proxy": "http://b:1", "no_proxy": "10.0.0.0/8"}, "11.1.2.3", "http://b:1"),
    ],
)
def test_which_proxy_grpc_would_take(
    environment: dict[str, str], host: str, way: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(host) == way


def test_doubts_about_a_coordinator(authority: Authority) -> None:
    with serving(authority.server(days=10), alpn="http/1.1") as port:
        ends, http2 = reach(f"localhost:{port}", authority.path).doubts
    assert ends.startswith("its certificate ends in 9 days") or ends.startswith("its certificate ends in 10 days")
    assert "does not offer HTTP/2" in http2


def test_another_ca_is_not_trusted(authority: Authority, error_of: ErrorOf) -> None:
    other = Authority("other", authority.folder)
    with serving(authority.server()) as port:
        message = error_of(lambda: reach(f"localhost:{port}", other.path))
    assert f"its certificate is not of the CA in {other.path}" in message


@pytest.mark.parametrize(
    ("host", "age", "days", "message"),
    [
        ("elsewhere", 1, 90, "its certificate is not for 'localhost'"),
        ("localhost", 20, -10, "its certificate has expired"),
        ("localhost", -5, 90, "its certificate is not valid yet; look at this machine's clock"),
    ],
)
def test_certificates_that_cannot_be_used(
    host: str, age: int, days: int, message: str, authority: Authority, error_of: ErrorOf
) -> None:
    with serving(authority.server(host=host, age=age, days=days)) as port:
        assert message in error_of(lambda: reach(f"localhost:{port}", authority.path))


def test_a_server_without_tls(authority: Authority, error_of: ErrorOf) -> None:
    with serving(None) as port:
        assert "answers, but not with TLS" in error_of(lambda: reach(f"localhost:{port}", authority.path))


def test_nobody_answers(authority: Authority, error_of: ErrorOf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, and stays silent
        port = listener.getsockname()[1]
        message = error_of(lambda: reach(f"127.0.0.1:{port}", authority.path, timeout=0.2))
        assert "no answer within 0.2 seconds; a firewall may stop connections" in message
    with nobody() as port:
        message = error_of(lambda: reach(f"127.0.0.1:{port}", authority.path))
        assert "refused; is the coordinator running" in message
    message = error_of(lambda: reach("no-such-host.invalid:9092", authority.path))
    assert "there is no host 'no-such-host.invalid'" in message


@pytest.mark.parametrize("address", ["localhost", ":9092", "localhost:x", "localhost:0", "localhost:65536", ""])
def test_an_address_needs_host_and_port(address: str, authority: Authority, error_of: ErrorOf) -> None:
    assert "give HOST:PORT" in error_of(lambda: reach(address, authority.path))


@pytest.mark.parametrize("host", ["fed..org", ".fed.org", f"{'a' * 64}.org", "fed\udcff.org"])
def test_a_host_that_cannot_be_one_is_said_before_anything_is_sent(
    host: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    assert "cannot be a host's name" in error_of(lambda: reach(f"{host}:9092", authority.path))
    with proxying() as (proxy, asked):
        monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{proxy}")
        assert "cannot be a host's name" in error_of(lambda: reach(f"{host}:9092", authority.path))
    assert asked == []


def test_a_file_that_is_no_certificate(tmp_path: Path, error_of: ErrorOf) -> None:
    path = tmp_path / "ca.crt"
    assert "cannot be read" in error_of(lambda: reach("localhost:1", path))
    path.write_text("nothing")
    assert "no certificate in PEM form; take ca.crt of this site's kit" in error_of(lambda: reach("localhost:1", path))
