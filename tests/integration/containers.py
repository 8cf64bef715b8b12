"""Coordinator and sites as containers, each a compose project of its own. For the test of the compose files."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.config import APP_ROOT


def docker(*words: str, check: bool = True) -> str:
    """Run a `docker` command; return what it said."""
    return run(["docker", *words], check=check)


def user() -> str:
    """Return the user and group of the containers: with root's federation the images' own, else who made it."""
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else "49999:49999"


def run(command: list[str], check: bool = True, **options: Any) -> str:
    """Run a command; return its standard output, with the errors where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, **options)
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def compose_command() -> list[str]:
    """Return the compose tool's command; skip where there is no Docker, and fail where there is one that does not work.

    On a machine whose Docker is not meant for tests, FEDNC_NO_CONTAINERS says why they are left out.
    """
    if reason := os.environ.get("FEDNC_NO_CONTAINERS"):
        pytest.skip(f"no containers: {reason}")
    if not shutil.which("docker"):
        pytest.skip("there is no Docker on this machine")
    try:
        docker("version")
    except AssertionError as error:
        pytest.fail(f"no Docker engine answers; start it, or set FEDNC_NO_CONTAINERS to the reason: {error}")
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    pytest.fail("Docker is here, docker-compose and `docker compose` are not: install one of them")


@contextmanager
def images(tag: str) -> Iterator[tuple[str, ...]]:
    """Build the coordinator's and the site's image on a base made of this machine's Python; remove them afterwards."""
    base, *names = (f"fednc-{name}:{tag}" for name in ("base", "coordinator", "site"))
    try:
        run([str(APP_ROOT / "docker" / "test-base.sh"), sys.executable, base])
        for name, target in zip(names, ("coordinator", "site"), strict=True):
            docker(
                "build", "-f", str(APP_ROOT / "docker" / "Dockerfile"), "--target", target, "-t", name,
                "--build-arg", f"BASE={base}", "--build-arg", "TORCH=base", "--build-arg",
                "PIP_ARGS=--no-index --no-build-isolation --no-deps", str(APP_ROOT),
            )  # fmt: skip
        yield tuple(names)
    finally:
        docker("image", "rm", "--force", *names, base, check=False)


@contextmanager
def host_address(name: str) -> Iterator[str]:
    """Yield an address of this machine that containers of every network reach, as they would the coordinator's."""
    docker("network", "create", name)
    try:
        yield docker("network", "inspect", name, "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    finally:
        docker("network", "rm", name, check=False)


def mount_packages(folder: Path, image: str, services: Iterable[str]) -> None:
    """Write the compose file that mounts this machine's packages which the base image leaves out."""
    names = docker("image", "inspect", image, "--format", '{{index .Config.Labels "without"}}').split()
    packages = Path(pytest.__file__).parents[1]
    inside = f"/usr/local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    mounts = [
        {"type": "bind", "source": str(packages / name), "target": f"{inside}/{name}", "read_only": True}
        for name in names
        if (packages / name).is_dir()
    ]
    content = {"services": {service: {"volumes": mounts} for service in services}}
    (folder / "compose.test.yml").write_text(json.dumps(content))


def set_up(folder: Path, values: Mapping[str, object]) -> None:
    """Change lines of a kit's `.env`, as its instructions say, or add them."""
    path = folder / ".env"
    text = path.read_text()
    for key, value in values.items():
        text, found = re.subn(rf"^{key}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
        text += "" if found else f"{key}={value}\n"
    path.write_text(text)


def files_of(images: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield every file of images as Docker saves them, and every file inside their layers."""
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saving:
        assert saving.stdout
        with tarfile.open(fileobj=saving.stdout, mode="r|") as archive:
            for member in archive:
                content = read_member(archive, member)
                yield member.name, content
                try:
                    with tarfile.open(fileobj=io.BytesIO(content)) as layer:
                        yield from ((f"{member.name}: {m.name}", read_member(layer, m)) for m in layer)
                except tarfile.ReadError:  # settings
                    continue
    assert saving.returncode == 0


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isfile() else None
    return file.read() if file else b""


class Machine:
    """A coordinator or a site: a kit's folder and its compose project.

    Args:
        folder: the kit.
        compose: the compose tool's command.
        project: the name of the project, unlike any other on this engine.
    """

    def __init__(self, folder: Path, compose: list[str], project: str) -> None:
        self.folder, self.project, self._compose = folder, project, compose

    def words(self, *words: str) -> list[str]:
        """Return a compose command, to be run in the kit's folder."""
        return [*self._compose, *words]

    def compose(self, *words: str, check: bool = True) -> str:
        return run(self.words(*words), check=check, cwd=self.folder)

    def container(self, service: str) -> str:
        """Return the id of a service's container, running or not."""
        label = "label=com.docker.compose.{}={}"
        filters = [label.format("project", self.project), label.format("service", service)]
        return docker("ps", "--all", "--quiet", *(word for f in filters for word in ("--filter", f))).strip()

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return what Docker knows of each container, by service."""
        ids = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}").split()
        rows = json.loads(docker("inspect", *ids)) if ids else []
        return {row["Config"]["Labels"]["com.docker.compose.service"]: row for row in rows}

    def healthy(self) -> bool:
        return all(row["State"]["Health"]["Status"] == "healthy" for row in self.containers().values())

    def python(self, service: str, program: str) -> str:
        """Run a Python program inside a container; return what it printed, errors included."""
        return docker("exec", self.container(service), "python", "-c", program, check=False)

    def reaches(self, service: str, host: str, port: int) -> bool:
        """Say whether a TCP connection can be made from inside."""
        program = f"import socket; socket.create_connection(({host!r}, {port}), timeout=3).close(); print('open')"
        return "open" in self.python(service, program).splitlines()

    def network(self, action: str, service: str) -> None:
        """'connect' or 'disconnect' a container and the way out."""
        docker("network", action, f"{self.project}_outside", self.container(service))

    def log(self, service: str) -> str:
        done = subprocess.run(["docker", "logs", self.container(service)], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def remove(self) -> None:
        """Remove containers, networks and volumes, as far as they are there."""
        label = ["--filter", f"label=com.docker.compose.project={self.project}"]
        for kind, listed in (("container", ["ls", "-a"]), ("network", ["ls"]), ("volume", ["ls"])):
            if found := docker(kind, *listed, "-q", *label).split():
                docker(kind, "rm", "--force", *found, check=False)


@dataclass
class Federation:
    """Machines that are not started yet."""

    folder: Path
    host: str
    fleet: int
    control: int
    images: tuple[str, ...]
    coordinator: Machine
    sites: dict[str, Machine]
    asked: list[str]  # of the proxy of the first site

    @property
    def machines(self) -> list[Machine]:
        return [self.coordinator, *self.sites.values()]

    def secrets(self) -> set[str]:
        """Return every line that must stay in the files where `fednc provision` wrote it."""
        files = [path for path in self.folder.rglob("*") if path.suffix in (".key", ".secret")]
        assert len(files) == 3 + 2 * len(self.sites)
        return {line for path in files for line in path.read_text().splitlines() if line and "-----" not in line}
