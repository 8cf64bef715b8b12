"""A coordinator and sites as real processes on loopback: TLS, authentication, gRPC. For the tests of deployment."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from PIL import Image
from sklearn.datasets import load_digits

from common.config import APP_ROOT
from server_app.flower_run import QUIET, free_port

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


def _sign(subject: str, key: Any, issuer: str, signer: Any, hosts: tuple[str, ...] = (), ca: bool = False) -> bytes:
    now = datetime.now(UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, word)]) for word in (subject, issuer)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )  # fmt: skip
    if hosts:
        sans = [x509.DNSName("localhost"), *(x509.IPAddress(ip_address(host)) for host in hosts)]
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def write_certificates(folder: Path) -> None:
    """Write ca.crt, server.crt and server.key."""
    authority, server = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(_sign("ca", authority, "ca", authority, ca=True))
    (folder / "server.crt").write_bytes(_sign("server", server, "ca", authority, hosts=("127.0.0.1",)))
    (folder / "server.key").write_bytes(_private(server))


def write_key_pair(folder: Path, name: str) -> Path:
    """Write a site's key pair; return the private key's path."""
    key = ec.generate_private_key(ec.SECP384R1())
    path = folder / f"{name}.key"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public)
    return path


def _private(key: Any) -> bytes:
    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class Deployment:
    """A SuperLink with TLS and authentication, and SuperNodes that register with it.

    Args:
        home: certificates, Flower's configuration and logs.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, self.fleet, self.control = free_port(), free_port(), free_port()
        self.environment = {**os.environ, **QUIET, "FLWR_HOME": str(home / "flower")}
        self.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment["PYTHONPATH"] = str(APP_ROOT)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        write_certificates(home / "certificates")
        (home / "flower").mkdir()
        (home / "flower" / "config.toml").write_text(
            f'[superlink]\ndefault = "prod"\n\n[superlink.prod]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{home}/certificates/ca.crt"\n'
        )

    def start(self, name: str, *command: str) -> None:
        """Start a process whose output goes to `<name>.log`."""
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=self.home, env=self.environment, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def start_coordinator(self) -> None:
        """Start the SuperLink and wait until its fleet port answers."""
        certificates = self.home / "certificates"
        self.start(
            "superlink", "flower-superlink", "--host", "127.0.0.1", "--port", str(self.port),
            "--fleet-api-type", "grpc-rere", "--fleet-api-address", f"127.0.0.1:{self.fleet}",
            "--control-api-address", f"127.0.0.1:{self.control}",
            "--ssl-certfile", str(certificates / "server.crt"), "--ssl-keyfile", str(certificates / "server.key"),
            "--ssl-ca-certfile", str(certificates / "ca.crt"), "--database", str(self.home / "superlink.db"),
            "--enable-supernode-auth", "--isolation", "subprocess", "--disable-runtime-dependency-installation",
        )  # fmt: skip
        self.wait_for("superlink", r"Fleet API|gRPC")

    def wait_for(self, name: str, pattern: str, seconds: float = 90) -> None:
        """Wait until a process's log says something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if re.search(pattern, self.log(name)):
                return
            assert self.processes[name].poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
            time.sleep(0.2)
        raise AssertionError(f"{name} did not say {pattern!r} within {seconds:g} s: {self.log(name)[-2000:]}")

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")

    def flwr(self, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a `flwr` command."""
        return subprocess.run(
            ["flwr", *words], cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=seconds,
            check=False,
        )  # fmt: skip

    def register(self, name: str) -> Path:
        """Make a key pair for a site and register it; return the private key's path."""
        key = write_key_pair(self.home, name)
        done = self.flwr("supernode", "register", str(key.with_suffix(".pub")), "prod", "--name", name)
        assert done.returncode == 0, done.stdout + done.stderr
        return key

    def start_site(self, name: str, key: Path, config: Path) -> None:
        """Start a site's SuperNode."""
        self.start(
            name, "flower-supernode", "--superlink", f"127.0.0.1:{self.fleet}", "--grpc-rere",
            "--root-certificates", str(self.home / "certificates" / "ca.crt"),
            "--auth-supernode-private-key", str(key), "--host", "127.0.0.1", "--port", str(free_port()),
            "--node-config", f'site-config="{config}"', "--isolation", "subprocess",
        )  # fmt: skip

    def run(self, overrides: Mapping[str, Any], seconds: float = 600) -> str:
        """Run the app to its end; return what it said."""
        words = " ".join(f"{k}='{v}'" if isinstance(v, str | Path) else f"{k}={v}" for k, v in overrides.items())
        done = self.flwr("run", str(APP_ROOT), "prod", "--stream", "--run-config", words, seconds=seconds)
        return done.stdout + done.stderr

    def status(self) -> str:
        """Return the status of the newest run."""
        listed = json.loads(self.flwr("ls", "prod", "--format", "json").stdout)
        return str(listed["runs"][0]["status"])

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, how)
        self.processes[name].wait()


@contextmanager
def deployment(home: Path) -> Iterator[Deployment]:
    """Yield a deployment whose processes end with the block."""
    deployed = Deployment(home)
    try:
        deployed.start_coordinator()
        yield deployed
    finally:
        for name in deployed.processes:
            deployed.kill(name)
