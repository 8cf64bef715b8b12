"""The way out through a proxy, as gRPC takes it: CONNECT to an HTTP proxy that the environment names."""

import base64
import os
import socket
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from common.errors import UserError, one_line

_NAMES = ("grpc_proxy", "https_proxy", "http_proxy")  # in the order in which gRPC looks
_SPARED = ("no_grpc_proxy", "no_proxy")
_REFUSED = "Tunnel connection failed: "  # how http.client begins, before status and reason


def proxy_for(host: str) -> str:
    """Return the proxy's address that the environment names for a host, '' for none.

    As gRPC: the first variable that is set decides, also where it is empty; hosts are spared by how they end, addresses
    by ranges too.
    """
    given = next((os.environ[name] for name in _NAMES if name in os.environ), "")
    spared = next((os.environ[name] for name in _SPARED if name in os.environ), "")
    return "" if any(_spares(word.strip(), host) for word in spared.split(",") if word.strip()) else given


def _spares(word: str, host: str) -> bool:
    try:
        return ip_address(host) in ip_network(word, strict=False)
    except ValueError:  # no address, or no range
        return host.lower().endswith(word.lower())


def connect(host: str, port: int, timeout: float, proxy: str = "") -> socket.socket:
    """Return a connection to HOST:PORT, through a proxy where one is given.

    The way is open where the proxy answers 200, as all do that we know of; gRPC would take any of 200 to 299.

    Args:
        host: the coordinator's.
        port: its.
        timeout: seconds for each step.
        proxy: `http://[user:password@]host:port`, all of it; '' for the direct way. TLS to the proxy is not for gRPC.

    Raises:
        UserError: the proxy cannot be used; its password is not shown.
        OSError: the direct way fails.
    """
    if not proxy:
        return socket.create_connection((host, port), timeout=timeout)
    way, login = _proxy(proxy, timeout)
    via = f"the proxy {way.host}:{way.port}"
    name = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    target = f"{name}:{port}"
    secret = base64.b64encode(login.encode()).decode()
    way.set_tunnel(name, port, {"Host": target} | ({"Proxy-Authorization": f"Basic {secret}"} if login else {}))
    try:
        way.connect()
    except (OSError, HTTPException) as error:
        reached = way.sock is not None
        way.close()
        raise UserError(f"{via} {_trouble(error, target, reached=reached)}") from None
    return way.sock


def _trouble(error: Exception, target: str, *, reached: bool) -> str:
    """Return what to say of a proxy that opens no way: it refuses, is silent or no proxy, or is not there."""
    words = one_line(str(error), 200)
    if words.startswith(_REFUSED):
        answer = words.removeprefix(_REFUSED)
        return f"answers '{answer}' to CONNECT {target}: it must allow that, see Proxy in README.md"
    if isinstance(error, OSError) and error.strerror:
        words = error.strerror
    return f"does not answer as one ({words})" if reached else f"cannot be reached ({words}); look at FEDNC_PROXY"


def _proxy(address: str, timeout: float) -> tuple[HTTPConnection, str]:
    """Return the connection to be made to a proxy, and user:password or ''."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as sockets do; a UnicodeError is a ValueError
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
        login.encode()  # bytes that are no text stand there as letters that cannot be sent
        if host and port and parts.scheme == "http":  # else gRPC would go directly, or elsewhere
            return HTTPConnection(host, port, timeout=timeout), login
    except (ValueError, HTTPException):
        pass  # the words of these errors may show the password
    raise UserError("the proxy's address is not of the form http://proxy.example.org:3128")
