"""Coordinator and sites as containers, each a compose project of its own. For the test of the compose files."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.config import APP_ROOT


def docker(*words: str, check: bool = True) -> str:
    """Run a `docker` command; return what it said."""
    return run(["docker", *words], check=check)


def run(command: list[str], check: bool = True, **options: Any) -> str:
    """Run a command; return its standard output, with the errors where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, **options)
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def compose_command() -> list[str]:
    """Return the compose tool's command; skip where there is no engine, and fail where one cannot be used."""
    if not shutil.which("docker"):
        pytest.skip("there is no Docker on this machine")
    try:
        docker("version")
    except AssertionError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Docker engine answers: {error}")
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


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


class Machine:
    """A coordinator or a site: a kit's folder and its compose project.

    Args:
        folder: the kit.
        compose: the compose tool's command.
        project: the name of the project, unlike any other on this engine.
    """

    def __init__(self, folder: Path, compose: list[str], project: str) -> None:
        self.folder, self.project, self._compose = folder, project, compose

    def compose(self, *words: str, check: bool = True) -> str:
        return run([*self._compose, *words], check=check, cwd=self.folder)

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
        """Remove containers, networks and volumes."""
        label = ["--filter", f"label=com.docker.compose.project={self.project}"]
        for kind, listed in (("container", ["ls", "-a"]), ("network", ["ls"]), ("volume", ["ls"])):
            if found := docker(kind, *listed, "-q", *label).split():
                docker(kind, "rm", "--force", *found, check=False)
