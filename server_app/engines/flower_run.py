"""`flwr run` with everything around it that a person would otherwise have to know.

Starts a SuperLink of its own in simulation mode, from a neutral folder and on free ports, submits the
app, shows its log, and stops the SuperLink again. Nothing is installed at run time, nothing phones home.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from common.errors import UserError
from common.files import private_file, write_text
from common.logs import write_out
from server_app.engines.flower_app import write_app
from server_app.engines.process_group import process_group

QUIET = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's announcement of a future default
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "utf-8",  # whatever this terminal can show: its output is read here
}
# glibc hands each batch's large blocks back to the system and asks for them again: keeping them is 10 to 15 % faster
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
STARTUP_SECONDS = 60.0
_LONGEST = 500  # letters of Flower's own words
_COLOUR = r"(\x1b\[[0-9;]*m|\s)*"
# not FedNC's: Flower's own, and those of a worker of Ray, whose name comes first
_FLOWER_LINE = re.compile(rf"^{_COLOUR}(\(\w+ pid=\d+[^)]*\){_COLOUR})?(INFO|WARNING|DEBUG|Successfully installed)\b")


def flower_run(sites: int, overrides: Mapping[str, Any], cpus_per_site: int = 1, gpus_per_site: float = 0.0) -> None:
    """Run the app in Flower's simulation and stream FedNC's lines to standard output.

    Args:
        sites: number of simulated SuperNodes.
        overrides: the run-config, `config` included; paths absolute.
        cpus_per_site: processors a Ray worker claims; it decides how many sites train side by side.
        gpus_per_site: share of a GPU a Ray worker claims.

    Raises:
        UserError: an incomplete installation, no SuperLink, or the run failed.
    """
    with tempfile.TemporaryDirectory(prefix="fednc-") as neutral, superlink(Path(neutral)) as environment:
        app = write_app(Path(neutral) / "app")
        federation = (
            f"num-supernodes={sites} client-resources-num-cpus={cpus_per_site} "
            f"client-resources-num-gpus={gpus_per_site}"
        )
        command = [
            *tool("flwr"), "run", str(app), "fednc", "--stream",
            "--federation-config", federation, "--run-config", run_config(overrides),
        ]  # fmt: skip
        run_id = stream(command, environment, neutral)
        check_status(run_id, "fednc", environment, neutral)


def run_config(overrides: Mapping[str, Any]) -> str:
    """Return overrides as Flower's `key=value` string: TOML values, strings in quotes.

    Raises:
        UserError: a value with a quote, which Flower's parser cannot carry.
    """
    parts = []
    for key, value in overrides.items():
        if value is None:
            continue  # not given
        if isinstance(value, bool):
            parts.append(f"{key}={str(value).lower()}")
        elif isinstance(value, int | float):
            parts.append(f"{key}={value}")
        else:
            if "'" in str(value) or '"' in str(value):
                raise UserError(f"{key} = {value}: quotes are not possible here; rename the file or folder")
            parts.append(f"{key}='{value}'")
    return " ".join(parts)


@contextmanager
def superlink(home: Path) -> Iterator[dict[str, str]]:
    """Run a SuperLink in simulation mode below `home`; yield the environment in which `flwr` finds it.

    With the block end the SuperLink, the simulation and Ray, which live in sessions of their own.
    """
    port, control = free_port(), free_port()
    write_text(
        home / "config.toml",
        f'[superlink]\ndefault = "fednc"\n\n[superlink.fednc]\naddress = "127.0.0.1:{port}"\ninsecure = true\n',
    )
    command = [
        *tool("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess",
        "--control-api-address", f"127.0.0.1:{control}", "--host", "127.0.0.1", "--port", str(port),
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    log_path, process = home / "superlink.log", None
    try:
        with private_file(log_path) as log_file, process_group() as inherited:
            environment = {**KEEP_MEMORY, **inherited, **QUIET, "FLWR_HOME": str(home)}
            environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
            process = subprocess.Popen(
                command,
                cwd=home,
                env=environment,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,  # of its database and log, and of Ray's
            )
            _await_health(process, port, log_path)
            yield environment
    finally:
        if process is not None:
            process.wait()


def _await_health(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=1).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    tail = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    raise UserError(f"Flower's SuperLink did not start: {' / '.join(tail) or 'no output'}")


def stream(
    command: list[str], environment: dict[str, str], folder: str, run_id: str = "", begun: Callable[[str], object] = str
) -> str:
    """Show the app's lines of a `flwr` command, and return Flower's run id.

    Args:
        command: what is run.
        environment: its environment.
        folder: where.
        run_id: of a run that has begun already.
        begun: called with the id of a run that begins.

    Raises:
        UserError: no run began.
    """
    shown = []
    with _lines(command, environment, folder) as lines:
        for line in lines:
            if found := re.search(r"started run (\d+)", line):
                run_id = found.group(1)
                begun(run_id)
            elif run_id and not _FLOWER_LINE.match(line):
                write_out(line)
            shown.append(line.strip())
    if not run_id:
        raise UserError(f"Flower refused the run: {one_line_message(' '.join(shown[-5:]))}")
    return run_id


@contextmanager
def _lines(command: list[str], environment: dict[str, str], folder: str) -> Iterator[Iterator[str]]:
    """Yield the output of a command that ends with the block, and that Ctrl-C does not reach by itself."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        try:
            yield process.stdout
            process.wait()
        finally:
            process.kill()


def check_status(run_id: str, superlink: str, environment: dict[str, str], folder: str) -> None:
    """Raise `UserError` unless a run is completed: `flwr run --stream` exits 0 for a failed one too."""
    answer = subprocess.run(
        [*tool("flwr"), "ls", superlink, "--run-id", run_id, "--format", "json"],
        cwd=folder, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    try:
        status = str(json.loads(answer.stdout)["runs"][0]["status"])
    except (ValueError, LookupError):
        message = one_line_message(answer.stdout + answer.stderr)
        raise UserError(f"run {run_id}: Flower does not say how it stands: {message}") from None
    if not status.startswith("finished:completed"):
        raise UserError(f"the run ended as '{status}'; its last lines are above")


def one_line_message(text: str) -> str:
    """Return a `flwr` command's output as one line, without the frame that it draws around an error, or its JSON."""
    with suppress(ValueError, LookupError):
        text = str(json.loads(text)["error-message"])
    return " ".join(re.sub(r"[\u2500-\u257f]+( Error [\u2500-\u257f]+)?", " ", text).split())[:_LONGEST]


def tool(name: str) -> list[str]:
    """Return the command of this environment's own Flower tools, whatever PATH says."""
    path = Path(sys.executable).parent / name
    return [str(path)] if path.exists() else [name]


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
