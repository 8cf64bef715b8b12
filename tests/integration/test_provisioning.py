"""A provisioned coordinator and site as real processes on this machine: TLS, keys, revocation."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import grpc
import httpx
import pytest
from real_processes import Deployment
from shared_superlink import alone
from waiting import wait_until

from server_app.engines.flower_run import QUIET, free_port, tool
from server_app.provision import federation
from server_app.provision import flower as provision_flower
from server_app.provision.certificates import now
from server_app.provision.registry import load

FLOWER = tuple(int(part) for part in metadata.version("flwr").split(".")[:2])
pytestmark = pytest.mark.skipif(FLOWER >= (1, 40), reason="sites reach this Flower over HTTP, not gRPC")


class Coordinator:
    """A provisioned folder and the SuperLink that it is of, which may know other folders' sites too."""

    def __init__(self, folder: Path, fleet: int, superlink: int) -> None:
        self.folder, self.fleet = folder, fleet
        self.superlink = f"127.0.0.1:{superlink}"

    def nodes(self) -> dict[str, str]:
        """Return the status of every node id of this folder's sites."""
        with provision_flower.connect(self.superlink, self.folder / "ca" / "ca.crt") as connection:
            words = [*tool("flwr"), "supernode", "list", connection.name, "--format", "json", "-v"]
            done = subprocess.run(words, env=connection.environment, capture_output=True, text=True, check=True)
        ours = {key.node_id for key in load(self.folder).keys}
        nodes = {str(node["node-id"]): node["status"] for node in json.loads(done.stdout)["nodes"]}
        return {node: status for node, status in nodes.items() if node in ours}

    def supernode(self, kit: Path, ca: Path | None = None) -> list[str]:
        secrets = kit / "secrets"
        return [
            *tool("flower-supernode"), "--superlink", f"127.0.0.1:{self.fleet}",
            "--root-certificates", str(ca or secrets / "ca.crt"),
            "--auth-supernode-private-key", str(secrets / "site.key"), "--isolation", "process",
            "--superexec-auth-secret-file", str(secrets / "superexec.secret"), "--port", str(free_port()),
        ]  # fmt: skip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str], str], "subprocess.Popen[bytes]"]]:
    """Return a function that starts a process with its log in a file; all are ended afterwards."""
    running: list[subprocess.Popen[bytes]] = []

    def run(command: list[str], log: str) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, **QUIET, "FLWR_HOME": str(tmp_path / "home")}
        with (tmp_path / log).open("wb") as file:
            running.append(subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT))
        return running[-1]

    yield run
    for process in running:
        process.kill()  # a SuperNode asked to end while it ends by itself can stay for good
    for process in running:
        process.wait()


@pytest.fixture
def coordinator(tmp_path: Path, superlink: Path) -> Coordinator:
    """Return the shared SuperLink with a folder and a site's kit of one's own."""
    home = tmp_path / "provisioned"
    home.mkdir()
    deployed = Deployment(home, link=superlink)
    federation.add_site(deployed.federation, "hospital-1", now())
    return Coordinator(deployed.federation, deployed.fleet, deployed.port)


@pytest.fixture
def no_runs(superlink: Path) -> Iterator[None]:
    """Let no other test run anything meanwhile: it would ask the sites that are there."""
    with alone(superlink):
        yield


@pytest.mark.usefixtures("no_runs")
def test_a_registered_site_joins_and_a_revoked_one_is_refused(
    coordinator: Coordinator, start: Callable[[list[str], str], "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    kit = coordinator.folder / "sites" / "hospital-1"
    stranger = start(coordinator.supernode(kit), "stranger.log")
    assert stranger.wait(timeout=300) != 0  # not registered yet
    assert "Failed to activate SuperNode" in (tmp_path / "stranger.log").read_text()

    federation.synchronise(coordinator.folder, coordinator.superlink, now(), lambda _: None)
    node = load(coordinator.folder).keys[0].node_id
    assert coordinator.nodes() == {node: "registered"}
    running = start(coordinator.supernode(kit), "site.log")
    wait_until(lambda: coordinator.nodes() == {node: "online"}, 300, (tmp_path / "site.log").read_text)

    keep = kit.with_name("kept")
    kit.rename(keep)  # the site has its copy of the kit
    federation.revoke(coordinator.folder, "hospital-1", now())
    federation.synchronise(coordinator.folder, coordinator.superlink, now(), lambda _: None)
    assert coordinator.nodes() == {node: "unregistered"}
    assert start(coordinator.supernode(keep), "revoked.log").wait(timeout=300) != 0
    assert "Failed to activate SuperNode" in (tmp_path / "revoked.log").read_text()
    running.wait(timeout=300)  # the one that was online ends at its next word to the coordinator
    assert coordinator.nodes() == {node: "unregistered"}


def test_a_site_with_another_authority_and_a_client_without_tls_get_nowhere(
    coordinator: Coordinator, start: Callable[[list[str], str], "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    federation.make(other, ["127.0.0.1"], 9092, 90, now())
    federation.synchronise(coordinator.folder, coordinator.superlink, now(), lambda _: None)
    kit = coordinator.folder / "sites" / "hospital-1"
    site = start(coordinator.supernode(kit, ca=other / "ca" / "ca.crt"), "wrong.log")
    assert site.wait(timeout=300) != 0
    assert "CERTIFICATE_VERIFY_FAILED" in (tmp_path / "wrong.log").read_text()
    assert list(coordinator.nodes().values()) == ["registered"]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{coordinator.superlink}/health", timeout=5)


SKEWED = """
from datetime import timedelta
from flwr.supercore import date

right = date.now
date.now = lambda: right() + timedelta(seconds={seconds})
"""


@pytest.mark.parametrize("seconds", [60, -600])
def test_a_site_whose_clock_is_wrong_is_refused(
    seconds: int, coordinator: Coordinator, start: Callable[[list[str], str], "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    kit = coordinator.folder / "sites" / "hospital-1"
    federation.synchronise(coordinator.folder, coordinator.superlink, now(), lambda _: None)
    (tmp_path / "sitecustomize.py").write_text(SKEWED.format(seconds=seconds))
    site = start(["env", f"PYTHONPATH={tmp_path}", *coordinator.supernode(kit)], "skewed.log")
    site.wait(timeout=120)
    said = (tmp_path / "skewed.log").read_text()
    assert "SuperNode ID" not in said and "SuperNode terminated gracefully" in said  # as the guide's table has it
    assert list(coordinator.nodes().values()) == ["registered"]


def test_an_expired_certificate_of_the_coordinator_is_named(
    start: Callable[[list[str], str], "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    folder, port = tmp_path / "old", free_port()
    federation.make(folder, ["127.0.0.1"], port, 1, now() - timedelta(days=10))
    federation.add_site(folder, "hospital-1", now())
    secrets = folder / "coordinator" / "secrets"
    pair = ((secrets / "server.key").read_bytes(), (secrets / "server.crt").read_bytes())
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
    server.start()
    site = start(Coordinator(folder, port, port).supernode(folder / "sites" / "hospital-1"), "expired.log")
    try:
        log = tmp_path / "expired.log"
        wait_until(lambda: site.poll() is not None or "certificate has expired" in log.read_text(), 120, log.read_text)
    finally:
        server.stop(None).wait()
    assert "CERTIFICATE_VERIFY_FAILED: certificate has expired" in (tmp_path / "expired.log").read_text()
