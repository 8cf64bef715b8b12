"""An HTTP proxy that knows CONNECT, as between a hospital and the world."""

import base64
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def proxying(
    login: str = "", host: str = "127.0.0.1", yes: str = "200 Connection established"
) -> Iterator[tuple[int, list[str]]]:
    """Yield the port of a proxy, and the first lines of what it was asked.

    Args:
        login: `user:password`; who does not give it is refused. '': everybody may.
        host: the address that it listens at.
        yes: status and reason of its answer where the way is open.
    """
    asked: list[str] = []

    class Proxy(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            header = b""
            while not header.endswith(b"\r\n\r\n"):
                if not (line := self.rfile.readline()):
                    return
                header += line
            asked.append(header.split(b"\r\n")[0].decode())
            if login and base64.b64encode(login.encode()) not in header:
                self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
            to, port = header.split(b" ")[1].decode().rsplit(":", 1)
            try:
                onward = socket.create_connection((to, int(port)))
            except OSError:
                self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                return
            with onward, suppress(OSError):
                self.wfile.write(f"HTTP/1.1 {yes}\r\nVia: test\r\n\r\n".encode())
                pass_on(self.connection, onward)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True  # a line that is open does not keep the test from ending

    with Server((host, 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()


def pass_on(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes from either side, until one of them ends or both are still for ten minutes."""
    while ready := select.select([one, other], [], [], 600)[0]:
        for source in ready:
            if not (data := source.recv(65536)):
                return
            (other if source is one else one).sendall(data)
