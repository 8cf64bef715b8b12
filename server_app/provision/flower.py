"""Registering sites' public keys with the SuperLink, by Flower's own command `flwr supernode`."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from server_app.engines.flower_run import QUIET, tool

DEFAULT_SUPERLINK = "127.0.0.1:8000"
_SECONDS = 120.0


@dataclass(frozen=True)
class Connection:
    """A SuperLink connection of Flower's configuration, and the environment in which `flwr` finds it."""

    name: str
    environment: dict[str, str]


@contextmanager
def connect(superlink: str, ca: Path) -> Iterator[Connection]:
    """Yield the connection.

    Args:
        superlink: HOST:PORT of the Control API, or the name of a connection in Flower's `config.toml`.
        ca: the certificate that HOST:PORT is checked with.
    """
    environment = {**os.environ, **QUIET}
    if ":" not in superlink:
        yield Connection(superlink, environment)
        return
    with tempfile.TemporaryDirectory(prefix="fednc-") as home:
        lines = (
            "[superlink.fednc]",
            f"address = {json.dumps(superlink)}",
            f"root-certificates = {json.dumps(str(ca.resolve()))}",
        )
        Path(home, "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield Connection("fednc", {**environment, "FLWR_HOME": home})


def register(connection: Connection, site: str, public_key: str) -> str:
    """Register a public key; return Flower's node id.

    Raises:
        UserError: the SuperLink cannot be reached, or refused.
    """
    with tempfile.TemporaryDirectory(prefix="fednc-") as folder:
        path = Path(folder, f"{site}.pub")
        path.write_text(public_key + "\n", encoding="utf-8")
        answer = _flwr(connection, ["register", str(path), connection.name, "--name", site])
    if not str(answer.get("node-id", "")).isdecimal():
        raise UserError(f"Flower did not register {site}: {_reason(answer)}")
    return str(answer["node-id"])


def unregister(connection: Connection, node_id: str) -> None:
    """Remove a node: Flower refuses its key from then on.

    Raises:
        UserError: the SuperLink cannot be reached, or refused.
    """
    answer = _flwr(connection, ["unregister", node_id, connection.name])
    if not answer.get("success"):
        raise UserError(f"Flower did not remove node {node_id}: {_reason(answer)}")


def _reason(answer: dict[str, object]) -> str:
    """Return Flower's error without the output before it."""
    return " ".join(str(answer.get("error-message", answer)).split("\n\n")[-1].split()).rstrip(".")


def _flwr(connection: Connection, words: list[str]) -> dict[str, object]:
    command = [*tool("flwr"), "supernode", *words, "--format", "json"]
    try:
        done = subprocess.run(
            command,
            env=connection.environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"Flower's SuperLink did not answer within {_SECONDS:.0f} s: does it run?") from None
    start = done.stdout.find("{")
    try:
        answer = json.loads(done.stdout[start:])
    except ValueError:
        output = " ".join((done.stdout + done.stderr).split())[-300:]
        raise UserError(f"`flwr supernode {words[0]}` failed: {output or f'exit code {done.returncode}'}") from None
    return dict(answer)
