"""Whether the coordinator answers at its address with a certificate of its CA: TCP and TLS, no login, nothing sent."""

import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from client_app.preflight.proxy import connect, proxy_for
from common.errors import UserError

_TIMEOUT = 10.0  # seconds
_SOON = 30  # days before the end of a certificate

# OpenSSL's X509_V_ERR_…
_EXPIRED, _NOT_YET, _HOSTNAME = 10, 9, (62, 64)
_UNTRUSTED = (18, 19, 20, 21)


@dataclass(frozen=True)
class CoordinatorProbe:
    """What answered.

    Attributes:
        address: as given.
        protocol: of the connection, e.g. TLSv1.3.
        certificate_ends: of the server's certificate, as OpenSSL writes it.
        days_left: until then.
        milliseconds: to connect.
        through: 'proxy' or 'direct', the way that was taken.
        doubts: what looks odd.
    """

    address: str
    protocol: str
    certificate_ends: str
    days_left: int
    milliseconds: float
    through: str = "direct"
    doubts: tuple[str, ...] = ()


def probe_coordinator(address: str, root_certificates: Path, timeout: float = _TIMEOUT) -> CoordinatorProbe:
    """Connect to the coordinator as a SuperNode would, through a proxy where the environment names one, and hang up.

    Args:
        address: HOST:PORT of its Fleet API.
        root_certificates: PEM file of its CA.
        timeout: seconds to wait for an answer.

    Raises:
        UserError: naming which step failed and what to look at.
    """
    host, port = _split(address)
    context, proxy = _context(root_certificates), proxy_for(host)
    start = time.perf_counter()
    try:
        with (
            connect(host, port, timeout, proxy) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            milliseconds = (time.perf_counter() - start) * 1000
            certificate = secured.getpeercert() or {}
            protocol, application_protocol = secured.version() or "", secured.selected_alpn_protocol()
    except ssl.SSLCertVerificationError as error:
        raise UserError(f"{address}: {_why(error, host, root_certificates)}") from None
    except ssl.SSLError as error:
        raise UserError(
            f"{address}: answers, but not with TLS ({error.reason or error}); is this the port for sites, and is the "
            "coordinator started with its certificate?"
        ) from None
    except socket.gaierror:
        raise UserError(f"{address}: there is no host '{host}'; look at its name, or this machine's DNS") from None
    except TimeoutError:
        raise UserError(
            f"{address}: no answer within {timeout:g} seconds; a firewall may stop connections to port {port}"
        ) from None
    except ConnectionRefusedError:
        raise UserError(f"{address}: refused; is the coordinator running, and is {port} its port for sites?") from None
    except OSError as error:
        raise UserError(f"{address}: cannot be reached ({error.strerror or error})") from None
    ends = str(certificate.get("notAfter", ""))
    days = int((ssl.cert_time_to_seconds(ends) - time.time()) // 86400)
    return CoordinatorProbe(
        address,
        protocol,
        ends,
        days,
        round(milliseconds, 1),
        "proxy" if proxy else "direct",
        tuple(_connection_warnings(days, application_protocol)),
    )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"superlink = '{address}': give HOST:PORT, e.g. fl.hospital.org:9092")
    host = host.strip("[]")
    try:
        host.encode("idna")  # as sockets and TLS do, which raise it too
    except UnicodeError:
        raise UserError(
            f"superlink = '{address}': '{host}' cannot be a host's name: between its dots are 1 to 63 letters, digits "
            "or hyphens; look for a typing mistake"
        ) from None
    return host, int(port)


def _context(root_certificates: Path) -> ssl.SSLContext:
    advice = "take ca.crt of this site's kit"
    try:
        context = ssl.create_default_context(cafile=root_certificates)
    except ssl.SSLError:
        raise UserError(f"{root_certificates}: no certificate in PEM form; {advice}") from None
    except OSError as error:
        raise UserError(f"{root_certificates}: cannot be read ({error.strerror}); {advice}") from None
    context.set_alpn_protocols(["h2"])  # as gRPC does
    return context


def _why(error: ssl.SSLCertVerificationError, host: str, root_certificates: Path) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired; the coordinator must renew it (or this machine's clock is ahead)"
    if code == _NOT_YET:
        return "its certificate is not valid yet; look at this machine's clock and the coordinator's"
    if code in _HOSTNAME:
        return f"its certificate is not for '{host}'; use a name that it has, or have this one added"
    if code in _UNTRUSTED:
        return f"its certificate is not of the CA in {root_certificates}; take ca.crt of the current kit"
    return f"its certificate is not accepted ({error.verify_message})"


def _connection_warnings(days: int, application_protocol: str | None) -> list[str]:
    doubts = []
    if days < _SOON:
        doubts.append(f"its certificate ends in {days} days; ask the coordinator to renew it")
    if application_protocol != "h2":
        doubts.append("it does not offer HTTP/2, which gRPC needs; is this the port for sites?")
    return doubts
