"""The shipped images and compose files: a coordinator and three sites, each on networks of its own.

Skipped where there is no Docker engine; where there is one, everything has to work.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import yaml
from after_training import check_predictions, check_restore_and_upgrade, fetch, save_coordinator
from containers import (
    Federation,
    Machine,
    compose_command,
    docker,
    files_of,
    host_address,
    images,
    mount_packages,
    run,
    set_up,
    user,
)
from real_processes import CLASSES, write_folders
from safetensors.numpy import load_file
from typer.testing import CliRunner
from waiting import wait_until

from server_app.cli import cli
from server_app.engines.flower_run import free_port, tool
from server_app.provision.flower import connect
from server_app.run.journal import read_events
from tests.proxy import proxying

SITES = ("hospital-0", "hospital-1", "hospital-2")
ROUNDS = 5
# as a file begins: libraries hold such lines inside
KEY_FILE = re.compile(rb"\s*-----BEGIN [A-Z ]*PRIVATE KEY-----")


def fednc(*words: object) -> None:
    answer = CliRunner().invoke(cli, list(map(str, words)))
    assert answer.exit_code == 0, f"{answer.output}{answer.exception}"


def write_data(root: Path) -> Path:
    """Write the images, a manifest for each site where its `site.yaml` looks for one, and the experiment."""
    folders, coordinator = write_folders(root, len(SITES))
    for folder in folders:
        rows = [path.relative_to(folder) for path in sorted(folder.rglob("*.png"))]
        lines = [f"{row},{row.parent.name},{row.parts[0]}" for row in rows]
        (folder / "manifest.csv").write_text("\n".join(["image,label,split", *lines]) + "\n")
    values = {
        "partition": "deployed", "classes": list(CLASSES), "dataset": "image-folder", "data-dir": "/data",
        "sites": len(SITES), "backbone": "cnn", "width": 4, "image-size": 8, "method": "fedloge", "rounds": ROUNDS,
        "local-epochs": 1, "batch-size": 16, "evaluate-every": 1, "finetune-epochs": 1, "device": "cpu",
        "quorum": 0.6, "round-retries": 200, "round-timeout": 900, "output-dir": "/results", "run-name": "pilot",
    }  # fmt: skip
    (coordinator / "pilot.yaml").write_text(yaml.safe_dump(values))
    return coordinator


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    """Yield a provisioned federation with its images; show all logs and remove everything afterwards."""
    compose, name = compose_command(), f"fednc-test-{uuid4().hex[:8]}"
    data, folder = tmp_path / "data", tmp_path / "federation"
    write_data(data)
    fleet, control = free_port(), free_port()
    with ExitStack() as stack:
        built = stack.enter_context(images(name))
        host = stack.enter_context(host_address(name))
        proxy, asked = stack.enter_context(proxying(host=host))
        fednc("provision", "init", folder, "--host", host, "--port", fleet)
        kits = {"coordinator": folder / "coordinator"}
        for site in SITES:
            fednc("provision", "site", folder, site)
            kits[site] = folder / "sites" / site
        machines = {}
        for key, kit in kits.items():
            image, app = (built[0], "serverapp") if key == "coordinator" else (built[1], "clientapp-cpu")
            machines[key] = Machine(kit, compose, f"{name}-{key}")
            settings = {"FEDNC_IMAGE": image, "FEDNC_DATA": data / key, "COMPOSE_PROJECT_NAME": f"{name}-{key}"}
            more = {"FEDNC_CONTROL_PORT": control} if key == "coordinator" else {"COMPOSE_PROFILES": "cpu"}
            if key == SITES[0]:
                more["FEDNC_PROXY"] = f"http://{host}:{proxy}"
            set_up(kit, {**settings, **more, "COMPOSE_FILE": "compose.yml:compose.test.yml"})
            mount_packages(kit, image, [app] if key == "coordinator" else [app, "supernode"])
            stack.callback(machines[key].remove)
        coordinator = machines.pop("coordinator")
        made = Federation(folder, host, fleet, control, built, coordinator, machines, asked)
        yield made
        for machine in made.machines:
            for service in machine.containers():
                print(f"--- {machine.project} {service}\n{machine.log(service)[-6000:]}")


def start(federation: Federation) -> None:
    """Start the coordinator, register the keys, start the sites, and wait until all are healthy."""
    federation.coordinator.compose("up", "-d")
    wait_until(federation.coordinator.healthy, 600, "the coordinator is healthy")
    fednc("provision", "register", federation.folder, "--superlink", f"127.0.0.1:{federation.control}")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda site: site.compose("up", "-d"), federation.sites.values()))
    for machine in federation.machines:
        wait_until(machine.healthy, 600, f"{machine.project} is healthy")


def check_sites(federation: Federation, experiment: Path) -> None:
    """Every site checks itself before it joins, in the guide's words."""
    for name, site in federation.sites.items():
        said = site.compose(
            *("run", "--rm", "--no-deps", "-v", f"{experiment}:/pilot.yaml:ro", "clientapp-cpu"),
            *("fednc-site", "check", "/etc/fednc/site.yaml", "--experiment", "/pilot.yaml"),
        )
        assert "ready: no problems" in said and name in said, said
        way = f"{federation.host}:{federation.fleet}"
        said = site.compose(
            *("run", "--rm", "--no-deps", "supernode"),
            *("fednc-site", "check", "--superlink", way, "--root-certificates", "/run/fednc/ca.crt"),
        )
        assert way in said and "ready: no problems" in said, said


def check_ports(federation: Federation) -> None:
    """Only the fleet port is open to sites, nothing to the world at a site, and no app has a way out."""
    published = {
        (service, inside, row["HostIp"], int(row["HostPort"]))
        for machine in federation.machines
        for service, facts in machine.containers().items()
        for inside, rows in facts["NetworkSettings"]["Ports"].items()
        for row in rows or []
        if row["HostIp"] != "::"
    }
    assert published == {
        ("superlink", "9092/tcp", "0.0.0.0", federation.fleet),
        ("superlink", "8000/tcp", "127.0.0.1", federation.control),
    }
    networks = federation.coordinator.containers()["superlink"]["NetworkSettings"]["Networks"]
    inside = [network["IPAddress"] for network in networks.values()]
    for site in federation.sites.values():
        assert site.reaches("supernode", federation.host, federation.fleet)
        assert not site.reaches("clientapp-cpu", federation.host, federation.fleet)
    (site, *_) = federation.sites.values()
    for address in (federation.host, *inside):
        assert not site.reaches("supernode", address, federation.control)
        assert not site.reaches("supernode", address, 8000)
    assert not federation.coordinator.reaches("serverapp", federation.host, federation.fleet)


def check_hardening(machine: Machine) -> None:
    for service, facts in machine.containers().items():
        host = facts["HostConfig"]
        assert facts["Config"]["User"] == user(), service
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"], service
        assert "no-new-privileges:true" in host["SecurityOpt"] and host["Init"], service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        assert host["LogConfig"]["Type"] == "json-file" and host["LogConfig"]["Config"]["max-size"], service
        said = machine.python(service, "import os; print(os.getuid()); open('/app/x', 'w')")
        assert said.startswith(user().split(":")[0]) and "Read-only file system" in said, said


def check_secrets(federation: Federation) -> None:
    """No secret of the federation, and no key file of anybody, is in images, settings or logs."""
    secrets = federation.secrets()
    shown = [docker("image", "history", "--no-trunc", image) for image in federation.images]
    for machine in federation.machines:
        containers = machine.containers()
        shown += [json.dumps(containers), *map(machine.log, containers)]
    assert not [text for text in shown if any(secret in text for secret in secrets)]
    users = False
    for name, content in files_of(federation.images):
        assert not KEY_FILE.match(content), name
        assert not [secret for secret in secrets if secret.encode() in content], name
        users |= name.endswith("etc/passwd") and b"fednc:x:49999" in content
    assert users  # the layers were read


def train(federation: Federation, experiment: Path, log: Path) -> str:
    """Run the experiment with one site stopped and one cut off for a while in its midst; return the run's status."""
    stopped, cut = (federation.sites[name] for name in SITES[1:])
    with connect(f"127.0.0.1:{federation.control}", federation.folder / "ca" / "ca.crt") as link, log.open("w") as file:
        program = "from server_app.cli import main; main()"
        words = [sys.executable, "-c", program, "run", str(experiment), "--superlink", link.name]
        with subprocess.Popen(words, env=link.environment, stdout=file, stderr=subprocess.STDOUT) as running:

            def says(text: str) -> bool:
                assert running.poll() is None, f"the run ended: {log.read_text()[-3000:]}"
                return text in log.read_text()

            wait_until(lambda: says(f"round 1/{ROUNDS} | "), 600, "the first round")
            cut.network("disconnect", "supernode")
            stopped.compose("stop")
            wait_until(lambda: says(f"{SITES[2]} left out"), 600, "a round without the site that is cut off")
            cut.network("connect", "supernode")
            assert running.wait(timeout=1200) == 0
        listed = run([*tool("flwr"), "ls", link.name, "--format", "json"], env=link.environment)
    return str(json.loads(listed)["runs"][0]["status"])


def check_results(folder: Path) -> None:
    """The journal names who was missing; rounds waited for the site that came back; the models are there."""
    events = read_events(folder)
    by_kind = {kind: [event for event in events if event["event"] == kind] for kind in {e["event"] for e in events}}
    assert {event["site"] for event in by_kind["rejected"]} == set(SITES[1:])
    assert by_kind["no-quorum"]
    assert [event["round"] for event in by_kind["round"]] == list(range(1, ROUNDS + 1))
    answered = [event["answered"] for event in by_kind["round"]]
    assert answered[0] == 3 and answered[-1] == 2
    final = {event["head"]: event for event in by_kind["generic"] if event["stage"] == "final"}
    assert {"aux_head", "aux_head_realigned", "frame"} <= set(final), final
    assert {tuple(event["sites"]) for event in by_kind["personal"] if event["stage"] != "arrival"} == {
        (SITES[0], SITES[2])
    }
    assert all(np.isfinite(array).all() for array in load_file(folder / "generic.safetensors").values())


def test_shipped_compose_files_make_a_federation(federation: Federation, tmp_path: Path) -> None:
    experiment = tmp_path / "data" / "coordinator" / "pilot.yaml"
    start(federation)
    check_sites(federation, experiment)
    check_ports(federation)
    for machine in federation.machines:
        check_hardening(machine)
    asked = {line.rpartition(" ")[0] for line in federation.asked}  # the first site's way, in Python's HTTP or gRPC's
    assert asked == {f"CONNECT {federation.host}:{federation.fleet}"}
    status = train(federation, experiment, tmp_path / "run.log")
    assert status == "finished:completed", (tmp_path / "run.log").read_text()[-3000:]
    fetch(federation.coordinator, "serverapp", "/results", "pilot", tmp_path)
    check_results(tmp_path / "pilot")
    assert all("round 1: got" in site.log("clientapp-cpu") for site in federation.sites.values())
    first, data = SITES[0], tmp_path / "data"
    check_predictions(federation.sites[first], first, data / first, tmp_path / "pilot" / "generic.safetensors")
    saved = save_coordinator(federation)
    check_secrets(federation)
    check_restore_and_upgrade(federation, saved, first)
