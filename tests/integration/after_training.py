"""What the guide does with a federation that has trained: results, predictions, backup, restore, upgrade."""

import csv
import io
import json
import subprocess
import tarfile
from pathlib import Path

from containers import Federation, Machine, docker, run, set_up, user
from real_processes import CLASSES
from waiting import wait_until

from server_app.engines.flower_run import tool
from server_app.provision.flower import connect


def fetch(machine: Machine, service: str, folder: str, name: str, target: Path) -> None:
    """Unpack what a container has in a folder, in the guide's words."""
    words = machine.words("exec", "-T", service, "tar", "-C", folder, "-c", name)
    packed = subprocess.run(words, cwd=machine.folder, capture_output=True, check=True, timeout=300).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(target, filter="data")


def check_predictions(site: Machine, name: str, data: Path, generic: Path) -> None:
    """A site's personal model, which stays in its volume, answers for its own images."""
    generic.chmod(0o644)
    site.compose(
        *("run", "--rm", "--no-deps", "-v", f"{generic}:/generic.safetensors:ro", "clientapp-cpu"),
        *("fednc-site", "predict", "/data/manifest.csv", "--model", "/generic.safetensors"),
        *("--personal", f"/state/models/pilot/{name}/personal_model.safetensors", "--output", "/state/answers.csv"),
    )
    answers = site.compose("exec", "-T", "clientapp-cpu", "cat", "/state/answers.csv").splitlines()
    rows = list(csv.DictReader(answers))
    assert len(rows) == len((data / "manifest.csv").read_text().splitlines()) - 1
    assert {row["predicted"] for row in rows} <= set(CLASSES) and not any(row.get("error") for row in rows)


def save_coordinator(federation: Federation) -> bytes:
    """Stop the coordinator and return its state as the guide saves it: a database with the sites' keys."""
    federation.coordinator.compose("stop")
    saved = with_state(federation, "ro", ["tar", "-C", "/state", "-c", "."])
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        assert "./superlink.db" in archive.getnames()
    return saved


def with_state(
    federation: Federation, access: str, command: list[str], *options: str, given: bytes | None = None
) -> bytes:
    """Run a command in the coordinator's image on its volume, 'ro' or 'rw', as the guide does; return its output."""
    volume = ["-v", f"{federation.coordinator.project}_state:/state:{access}", "--user", user()]
    words = ["docker", "run", "--rm", *options, *volume, federation.images[0], *command]
    done = subprocess.run(words, input=given, capture_output=True, check=False, timeout=300)
    assert not done.returncode, done.stderr
    return done.stdout


def check_restore_and_upgrade(federation: Federation, saved: bytes, site: str) -> None:
    """The coordinator's volume is lost and restored, its image and a site's are changed, and the site is let in."""
    coordinator, upgraded = federation.coordinator, federation.sites[site]
    coordinator.compose("down")
    docker("volume", "rm", f"{coordinator.project}_state")
    newer = []
    for machine, image in zip((coordinator, upgraded), federation.images, strict=True):
        newer.append(f"{image}-newer")
        docker("tag", image, newer[-1])
        set_up(machine.folder, {"FEDNC_IMAGE": newer[-1]})
    try:
        coordinator.compose("up", "-d")
        coordinator.compose("stop")
        with_state(federation, "rw", ["sh", "-c", "rm -f /state/* && tar -C /state -x"], "-i", given=saved)
        coordinator.compose("start")
        upgraded.compose("up", "-d")
        for machine, image in zip((coordinator, upgraded), newer, strict=True):
            wait_until(machine.healthy, 600, f"{machine.project} is healthy again")
            assert {facts["Config"]["Image"] for facts in machine.containers().values()} == {image}
        wait_until(lambda: "online" in states(federation).values(), 300, f"{site} is let in by its restored key")
        assert len(states(federation)) == len(federation.sites)
        assert f"/state/models/pilot/{site}" in upgraded.compose("exec", "-T", "clientapp-cpu", "ls", "-R", "/state")
    finally:
        for machine in (coordinator, upgraded):
            machine.remove()
        docker("image", "rm", "--force", *newer, check=False)


def states(federation: Federation) -> dict[str, str]:
    """Return what `flwr supernode list` says of each node."""
    with connect(f"127.0.0.1:{federation.control}", federation.folder / "ca" / "ca.crt") as link:
        said = run([*tool("flwr"), "supernode", "list", link.name, "--format", "json"], env=link.environment)
    return {str(row["node-id"]): str(row["status"]) for row in json.loads(said[said.find("{") :])["nodes"]}
