"""Health of a container's service: exit code 0 when it answers.

health.py tcp://127.0.0.1:9095
health.py http://127.0.0.1:9094/health
health.py https://localhost:8000/health /run/fednc/ca.crt
"""

import socket
import sys
from urllib.parse import urlsplit

SECONDS = 8.0


def check(address: str, ca: str | None) -> None:
    """Raise `OSError` if nothing answers at the address."""
    url = urlsplit(address)
    if url.scheme == "tcp":
        socket.create_connection((url.hostname, url.port), timeout=SECONDS).close()
        return
    import ssl  # here, as they take longer than all the rest
    import urllib.request

    context = ssl.create_default_context(cafile=ca) if ca else None
    handlers = [urllib.request.ProxyHandler({})]  # never through the proxy
    handlers += [urllib.request.HTTPSHandler(context=context)] if context else []
    urllib.request.build_opener(*handlers).open(address, timeout=SECONDS).close()


if __name__ == "__main__":
    try:
        check(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    except OSError as error:
        sys.exit(f"no answer from {sys.argv[1]}: {error}")
