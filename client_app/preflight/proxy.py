"""The way out through a proxy, as gRPC takes it: CONNECT to an HTTP proxy that the environment names."""

import base64
import os
import re
import socket
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from common.errors import UserError, one_line

_NAMES = ("grpc_proxy", "https_proxy", "http_proxy")  # in the order in which gRPC looks
_SPARED = ("no_grpc_proxy", "no_proxy")
_LONGEST = 16384  # bytes of an answer's header


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

    Args:
        host: the coordinator's.
        port: its.
        timeout: seconds for each step.
        proxy: `http://[user:password@]host:port`, all of it; '' for the direct way.

    Raises:
        UserError: the proxy cannot be used; its password is not shown.
        OSError: the direct way fails.
    """
    if not proxy:
        return socket.create_connection((host, port), timeout=timeout)
    where, login = _address(proxy)
    via = f"the proxy {where[0]}:{where[1]}"
    try:
        way = socket.create_connection(where, timeout=timeout)
    except OSError as error:
        raise UserError(f"{via} cannot be reached ({error.strerror or error}); look at FEDNC_PROXY") from None
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if login:
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}")
        way.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = _header(way)
    except OSError as error:
        way.close()
        raise UserError(f"{via} does not answer ({error.strerror or error})") from None
    if not re.match(r"\S+ 2\d\d\b", answer):  # gRPC takes any of them for a yes
        way.close()
        raise UserError(f"{via} answers '{answer}' to CONNECT {target}: it must allow that, see Proxy in README.md")
    return way


def _address(proxy: str) -> tuple[tuple[str, int], str]:
    """Return host and port, and user:password or ''."""
    try:
        parts = urlsplit(proxy)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as sockets do; a UnicodeError is a ValueError
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
        login.encode()  # bytes that are no text stand there as letters that cannot be sent
    except ValueError:
        host = None
    if not host or not port or parts.scheme != "http":  # gRPC would go directly, or elsewhere
        raise UserError("the proxy's address is not of the form http://proxy.example.org:3128")
    return (host, port), login


def _header(way: socket.socket) -> str:
    """Read to the end of the header, byte by byte: what follows is not the proxy's. Return its first line."""
    header = b""
    while not header.endswith(b"\r\n\r\n") and len(header) < _LONGEST:
        if not (byte := way.recv(1)):
            break
        header += byte
    if not header.endswith(b"\r\n\r\n"):
        raise OSError("it hung up")
    return one_line(header.split(b"\r\n")[0].decode("ascii", errors="replace"), 200)
