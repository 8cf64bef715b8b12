"""A coordinator and sites as real processes on loopback: TLS, authentication, gRPC. For the tests of deployment."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from waiting import wait_until

from common.config import APP_ROOT
from server_app.engines.flower_run import QUIET, free_port
from server_app.provision import federation
from server_app.provision.certificates import now

PORTS = "ports.json"
CLASSES = tuple(f"digit-{n}" for n in range(10))


def write_folders(root: Path, sites: int) -> tuple[list[Path], Path]:
    """Write digits as PNGs: one folder of class folders a site, and the coordinator's test images."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    parts = np.array_split(order[:600], sites + 1)
    folders = []
    for index, rows in enumerate(parts):
        folder = root / (f"hospital-{index}" if index < sites else "coordinator")
        for place, row in enumerate(rows.tolist()):
            part = "test" if index == sites or place % 4 == 0 else "train"
            path = folder / part / CLASSES[digits.target[row]] / f"{row:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).save(path)
        folders.append(folder)
    coordinator = folders.pop()
    for name in CLASSES:  # an image folder has a training side
        (coordinator / "train" / name).mkdir(parents=True, exist_ok=True)
        (coordinator / "test" / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(coordinator / "train" / CLASSES[0] / "unused.png")
    return folders, coordinator


def write_site_config(folder: Path, name: str, data: Path, **more: Any) -> Path:
    """Write a site's site.yaml and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({"name": name, "data": str(data), "state-dir": str(folder / "state"), **more}))
    return path


class Deployment:
    """A SuperLink with TLS and authentication, and SuperNodes that register with it.

    Args:
        home: the federation's folder, Flower's configuration and logs.
        database: the SuperLink's; in memory unless it must outlive its process: on a busy machine, SQLite's file is
            now and then locked for longer than Flower waits.
        link: the home of a deployment whose SuperLink serves this one too; the sites' keys are its own.
    """

    def __init__(self, home: Path, database: str = ":flwr-in-memory:", link: Path | None = None) -> None:
        self.home, self.database = home, database
        ports = json.loads((link / PORTS).read_text()) if link else [free_port() for _ in range(3)]
        self.port, self.fleet, self.control = ports
        self.environment = {**os.environ, **QUIET, "FLWR_HOME": str(home / "flower")}
        self.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment["PYTHONPATH"] = str(APP_ROOT)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.federation = home / "federation"
        if link:
            shutil.copytree(link / "federation", self.federation)
        else:
            federation.make(self.federation, ["127.0.0.1"], self.fleet, 90, now())
        (home / "flower").mkdir()
        (home / "flower" / "config.toml").write_text(
            f'[superlink]\ndefault = "prod"\n\n[superlink.prod]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{self.federation}/ca/ca.crt"\n'
        )

    def start(self, name: str, *command: str) -> None:
        """Start a process whose output goes to `<name>.log`."""
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=self.home, env=self.environment, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def start_coordinator(self, *below: str) -> None:
        """Start the SuperLink, `below` another command, and wait until it answers."""
        (self.home / "superlink.log").unlink(missing_ok=True)  # of one before it
        secrets = self.federation / "coordinator" / "secrets"
        self.start(
            "superlink", *below, "flower-superlink", "--host", "127.0.0.1", "--port", str(self.port),
            "--fleet-api-type", "grpc-rere", "--fleet-api-address", f"127.0.0.1:{self.fleet}",
            "--control-api-address", f"127.0.0.1:{self.control}",
            "--ssl-certfile", str(secrets / "server.crt"), "--ssl-keyfile", str(secrets / "server.key"),
            "--ssl-ca-certfile", str(secrets / "ca.crt"), "--database", self.database,
            "--enable-supernode-auth", "--isolation", "subprocess", "--disable-runtime-dependency-installation",
        )  # fmt: skip
        self.wait_for("superlink", r"Fleet API|gRPC")
        asks = str(APP_ROOT / "docker" / "health.py"), f"https://localhost:{self.port}/health", str(secrets / "ca.crt")

        def healthy() -> bool:
            return subprocess.run([sys.executable, *asks], capture_output=True, check=False).returncode == 0

        wait_until(healthy, 300, lambda: self.log("superlink"))
        (self.home / PORTS).write_text(json.dumps([self.port, self.fleet, self.control]))

    def wait_for(self, name: str, pattern: str, seconds: float = 90) -> None:
        """Wait until a process's log says something."""

        def said() -> bool:
            running = self.processes[name].poll() is None  # before the log is read, which may have its last words
            found = bool(re.search(pattern, self.log(name)))
            assert found or running, f"{name} ended: {self.log(name)[-2000:]}"
            return found

        wait_until(said, seconds, lambda: f"{name} says {pattern!r}: {self.log(name)[-2000:]}")

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")

    def flwr(self, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a `flwr` command."""
        return subprocess.run(
            ["flwr", *words], cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=seconds,
            check=False,
        )  # fmt: skip

    def register(self, name: str) -> Path:
        """Make a site's kit and register its key; return the private key's path."""
        federation.add_site(self.federation, name, now())
        federation.synchronise(self.federation, f"127.0.0.1:{self.port}", now(), print)
        return self.federation / "sites" / name / "secrets" / "site.key"

    def start_site(self, name: str, key: Path, config: Path, port: int = 0) -> None:
        """Start a site's SuperNode; `port`: of a `Line` to the fleet port."""
        self.start(
            name, "flower-supernode", "--superlink", f"127.0.0.1:{port or self.fleet}", "--grpc-rere",
            "--root-certificates", str(key.with_name("ca.crt")),
            "--auth-supernode-private-key", str(key), "--host", "127.0.0.1", "--port", str(free_port()),
            "--node-config", f'site-config="{config}"', "--isolation", "subprocess",
        )  # fmt: skip

    def run(self, overrides: Mapping[str, Any], seconds: float = 600) -> str:
        """Run the app to its end; return what it said."""
        done = self.flwr(*self.run_words(overrides), seconds=seconds)
        return done.stdout + done.stderr

    @staticmethod
    def run_words(overrides: Mapping[str, Any]) -> tuple[str, ...]:
        words = " ".join(f"{k}='{v}'" if isinstance(v, str | Path) else f"{k}={v}" for k, v in overrides.items())
        return "run", str(APP_ROOT), "prod", "--stream", "--run-config", words

    def status(self) -> str:
        """Return the status of the newest run."""
        listed = json.loads(self.flwr("ls", "prod", "--format", "json").stdout)
        return str(listed["runs"][0]["status"])

    def end(self) -> None:
        """End all processes; a site that is asked to says that it leaves, unless it ends by itself just then."""
        for process in self.processes.values():
            process.terminate()
        for name, process in self.processes.items():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            self.kill(name)

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, how)
        self.processes[name].wait()

    def kill_all_of(self, name: str) -> None:
        """Kill a process and all that it has started, as when its machine loses power."""
        for pid in descendants(self.processes[name].pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.processes[name].wait()


def descendants(pid: int) -> list[int]:
    """Return a process and all that it and they have started (Linux)."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


class Line:
    """A line to a port of this machine that can be cut and restored.

    Args:
        port: where it leads.

    Attributes:
        calls: how many came through since it was made or restored.
        refused: how many came while it was cut.
    """

    def __init__(self, port: int) -> None:
        self._end, self._ends, self._whole = ("127.0.0.1", port), list[socket.socket](), True
        self.calls = self.refused = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        """End what is under way, and let nothing through."""
        self._whole = False
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        self._whole, self.calls = True, 0

    def _listen(self) -> None:
        while True:
            caller, _ = self._listening.accept()
            if not self._whole:
                caller.close()
                self.refused += 1
                continue
            with suppress(OSError):
                called = socket.create_connection(self._end)
                self.calls += 1
                self._ends += [caller, called]
                for ends in ((caller, called), (called, caller)):
                    Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                target.sendall(content)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def deployment(home: Path, database: str = ":flwr-in-memory:") -> Iterator[Deployment]:
    """Yield a deployment whose processes end with the block."""
    deployed = Deployment(home, database)
    try:
        deployed.start_coordinator()
        yield deployed
    finally:
        for name in deployed.processes:
            deployed.kill(name)
